"""One row of a user's data set file: `audio`, `prompt`, `rating`, `tags`; and everything that may be wrong with it.

Ranges and lengths are those of `Sample` in the contract, so that a row which passes here passes at the server.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from trainer_node.data.row_values import audio_path, is_clean, missing, prompt_text, shown, unknown
from tunesmith import spec
from tunesmith.v1 import dataset_pb2

KEYS = ("audio", "prompt", "rating", "tags")


@dataclass(frozen=True)
class RatedRow:
    """A row that passed. line: where it begins in its file, from 1. audio_path: resolved, an existing file."""

    line: int
    audio_path: Path
    prompt: str
    rating: float
    tags: Mapping[str, str]


@dataclass
class CheckedRow:
    """What could be told of one row: the row if nothing was wrong, its audio file if that was found, and problems."""

    row: RatedRow | None = None
    audio_path: Path | None = None
    problems: list[str] = field(default_factory=list)

    @property
    def audio_paths(self) -> list[Path]:
        """The files that were found."""
        return [] if self.audio_path is None else [self.audio_path]


def check_row(record: Mapping[str, object], *, line: int, folder: Path) -> CheckedRow:
    """Check all but the content of the audio file. folder: where relative audio paths start and all audio lies."""
    checked = CheckedRow()
    checked.problems += [
        unknown(key, KEYS, otherwise="; anything else goes into tags") for key in record if key not in KEYS
    ]
    checked.audio_path = audio_path("audio", record.get("audio"), folder, checked.problems)
    rating = _rating(record.get("rating"), checked.problems)
    prompt = prompt_text(record.get("prompt"), checked.problems)
    tags = _tags(record.get("tags"), checked.problems)
    _check_contract(prompt, rating, tags, checked.problems)
    if not checked.problems and checked.audio_path is not None and prompt is not None and rating is not None:
        checked.row = RatedRow(line, checked.audio_path, prompt, rating, tags)
    return checked


def _rating(value: object, problems: list[str]) -> float | None:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        problems.append(missing("rating", value, "a number from 1 to 5"))
        return None
    try:
        rating = float(value)
    except OverflowError:
        rating = math.inf
    if not 1 <= rating <= 5:
        problems.append(f"rating is {value!r:.40}; give a number from 1 to 5")
        return None
    return rating


def _tags(value: object, problems: list[str]) -> dict[str, str]:
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        problems.append(f'tags is {shown(value)}; give an object of texts such as {{"mode": "major"}}')
        return {}
    tags = {}
    for key, text in value.items():
        if not isinstance(text, str):
            problems.append(f"tag {key!r:.80} is {shown(text)}; give a text, in quotes")
        elif is_clean(f"tag {key!r:.80}", text, problems) and is_clean("a tag's name", key, problems):
            tags[key] = text
    return tags


def _check_contract(prompt: str | None, rating: float | None, tags: Mapping[str, str], problems: list[str]) -> None:
    """The rules written in dataset.proto. What is missing was told before, and stands in for itself here."""
    sample = dataset_pb2.Sample(prompt=prompt or "-", rating=rating or 1, audio_digest="0" * 64, tags=tags)
    for problem in spec.check(sample):
        if "regex" in problem.what:
            rule = "1 to 63 letters, digits, `.`, `_`, `/`, `-`, beginning with a letter or digit"
            problems.append(f"{problem.path} is no name of a tag; use {rule}")
        else:
            problems.append(f"{problem.path} {problem.what}; shorten it")
