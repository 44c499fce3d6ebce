"""Keys of a run's file beside its settings: what it is called, what it is trained on, who plays. All are flags too."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from services.cli.labels import labels_of
from services.cli.lm_submit import CORPUS_PATH
from tunesmith.errors import FieldProblem, InvalidField

KEYS = (
    "experiment",
    "dataset",
    "dataset_version",
    "min_rating",
    "start_adapter",
    "adapter",
    "prompts_file",
    "display_name",
    "priority",
    "labels",
)
_DATA = ("dataset", "dataset_version", "min_rating")
_PLAYING = (
    ("adapter", "prompts_file"),
    "which plays nothing; leave it out, or choose generate (a training starts from its start_adapter)",
)
_BOTH_SIDES = (("min_rating",), "which needs the clips that are not liked, too; leave it out")
# What a kind does not take, and why.
_NOT_FOR: Mapping[str, tuple[tuple[tuple[str, ...], str], ...]] = {
    "supervised": (_PLAYING,),
    "dpo": (_PLAYING, _BOTH_SIDES),
    "ranking": (_PLAYING, _BOTH_SIDES),
    "tiny_lm": (
        (
            (*_DATA, "start_adapter", "adapter", "prompts_file"),
            f"which learns from text; leave it out, and give {CORPUS_PATH}",
        ),
    ),
    "generate": (((*_DATA, "start_adapter"), "which trains nothing; leave it out (who plays is said by adapter)"),),
}


def take_keys(mapping: dict[str, Any], file: Path | None, keywords: Mapping[str, Any]) -> dict[str, Any]:
    """Take the keys out of a file's mapping; the flags among a command's keywords stand above them.

    Paths of the file are made relative to it. Raises InvalidField, UsageError.
    """
    # `adapter:` with settings below it is a group of a training that stands flat in the file
    taken = [key for key in KEYS if key in mapping and not (key == "adapter" and isinstance(mapping[key], Mapping))]
    given = {key: mapping.pop(key) for key in taken}
    if given.get("prompts_file") is not None:
        given["prompts_file"] = (file.parent if file else Path()) / Path(str(given["prompts_file"])).expanduser()
    given |= {key: value for key in KEYS if key != "labels" and (value := keywords[key]) is not None}
    given["labels"] = _labels_in(given.get("labels")) | labels_of(keywords["labels"])
    if not given.get("experiment"):
        raise click.UsageError("which experiment? give --experiment, or the key experiment in the file")
    if given.get("dataset") and given.get("dataset_version"):
        raise click.UsageError("dataset and dataset_version do not go together; dataset takes its newest version")
    _refuse_misspelt(mapping)
    return given


def refuse_what_does_not_go(given: Mapping[str, Any], kind: str) -> None:
    """Raise UsageError for a key that a kind of run does not take."""
    for keys, why in _NOT_FOR.get(kind, ()):
        for key in keys:
            if given.get(key) is not None:
                raise click.UsageError(f"{key} does not go with {kind}, {why}")


def number(key: str, value: Any, kind: type[int] | type[float]) -> Any:
    """The number that a key gives. Raises InvalidField."""
    try:
        return kind(value)
    except (TypeError, ValueError) as error:
        raise InvalidField.of([FieldProblem(key, f"{value!r} is no number")]) from error


def _refuse_misspelt(mapping: Mapping[str, Any]) -> None:
    """Keys that are close to one of ours; the others are checked as kinds of training."""
    problems = []
    known = (*KEYS, CORPUS_PATH)
    for key in mapping:
        near = difflib.get_close_matches(str(key).replace("-", "_"), known, n=1, cutoff=0.75)
        if near and near[0] != key:
            problems.append(FieldProblem(str(key), f"unknown key; did you mean {near[0]}?"))
    if problems:
        raise InvalidField.of(problems)


def _labels_in(value: object) -> dict[str, str]:
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise InvalidField.of([FieldProblem("labels", "must be a mapping of texts")])
    return {str(key): str(text) for key, text in value.items()}
