"""Settings of a training from the command line: a YAML file, `--set key=value`, and flags.

Nothing here knows a setting by name. Precedence: flag or --set over file; what nobody gives is left to the experiment
and to the contract's default.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from services.cli.setting_flags import settings_of
from tunesmith.errors import FieldProblem, InvalidField

if TYPE_CHECKING:
    from tunesmith.v1.job_spec_pb2 import JobSpec

F = TypeVar("F", bound=Callable[..., Any])

DEFAULT_KIND = "supervised"
TRAINING_TYPES = ("supervised", "preference", "ranking", "tiny_lm", "generate")


def set_option(command: F) -> F:
    """Adds --set key=value."""
    return click.option(
        "--set",
        "assignments",
        metavar="KEY=VALUE",
        multiple=True,
        help="One setting, such as training.learning_rate=1e-4; may be repeated.",
    )(command)


def training_type_option(command: F) -> F:
    """Adds --training-type."""
    return click.option(
        "--training-type",
        type=click.Choice(TRAINING_TYPES),
        help="What to train, or generate to play clips, where the file does not say it.",
    )(command)


def read_mapping(file: Path | None) -> dict[str, Any]:
    """The mapping in a YAML file; empty without a file."""
    from tunesmith import spec

    return spec.read_yaml(file.read_text(encoding="utf-8"), where=str(file)) if file else {}


def with_kind(mapping: Mapping[str, Any], training_type: str | None = None, *, otherwise: str = "") -> dict[str, Any]:
    """A file's mapping that names its kind of training: its own, that of --training-type, or else this kind.

    Empty only where neither names one. Raises UsageError where the file and --training-type differ.
    """
    from tunesmith.training_type import KINDS, below_its_kind

    nested = dict(below_its_kind(mapping))
    wanted = KINDS[training_type] if training_type else ""
    if not nested:
        return {kind: {}} if (kind := wanted or otherwise) else {}
    if wanted and wanted not in nested:
        raise click.UsageError(f"--training-type {training_type} is for {wanted}, and the file for {', '.join(nested)}")
    return nested


def spec_of(
    mapping: Mapping[str, Any], assignments: tuple[str, ...] = (), flags: Mapping[str, Any] | None = None
) -> JobSpec:
    """The JobSpec of a file's mapping (kind → settings) with assignments and flags above it.

    Raises InvalidField with a suggestion for every key that is unknown.
    """
    from tunesmith import spec
    from tunesmith.v1 import job_spec_pb2

    parsed = spec.parse(mapping, job_spec_pb2.JobSpec())
    kind = spec.kind_of(parsed) or DEFAULT_KIND
    above: dict[str, Any] = {}
    for assignment in assignments:
        key, equals, value = assignment.partition("=")
        if not equals:
            raise InvalidField.of([FieldProblem("--set", f"{assignment!r} is not KEY=VALUE")])
        _place(above, kind, key.strip(), _value(value))
    for name, value in (flags or {}).items():
        _place(above, kind, name, value)
    overrides = spec.parse({kind: above} if above else {}, job_spec_pb2.JobSpec())
    return spec.merge(parsed, overrides)


def _value(text: str) -> Any:
    import yaml

    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise InvalidField.of([FieldProblem("--set", f"{text!r} is not a value: {error}")]) from error


def _place(above: dict[str, Any], kind: str, key: str, value: Any) -> None:
    """Put a value at its path; a bare name of a setting is enough, since names are unique across groups."""
    paths = dict(settings_of(kind))
    key = key.removeprefix(f"{kind}.").replace("-", "_")
    full = next((path for path in paths if path.rpartition(".")[2] == key), key)
    *groups, name = full.split(".")
    for group in groups:
        above = above.setdefault(group, {})
        if not isinstance(above, dict):
            raise InvalidField.of([FieldProblem(f"{kind}.{full}", f"{group} is a setting, not a group of settings")])
    above[name] = value
