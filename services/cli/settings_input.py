"""Settings of a training from the command line: a YAML file, `--set key=value`, and a flag for each setting.

The flags come from the contract: name, type, range and default from the descriptors, the help from the comments of
job_spec.proto. Nothing here knows a setting by name. Precedence: flag or --set over file; what nobody gives is left to
the experiment and to the contract's default.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from functools import cache
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from tunesmith.errors import FieldProblem, InvalidField

if TYPE_CHECKING:
    from google.protobuf.descriptor import FieldDescriptor

    from tunesmith.v1.job_spec_pb2 import JobSpec

F = TypeVar("F", bound=Callable[..., Any])

DEFAULT_KIND = "supervised"
_PREFIX = "setting__"  # parameters of the flags, so that they never meet a command's own


def setting_flags(*, kind: str = DEFAULT_KIND, without: tuple[str, ...] = ()) -> Callable[[F], F]:
    """Adds a flag for each setting of a kind of training; the values arrive as keywords for `given_flags`."""

    def decorate(command: F) -> F:
        for path, field in reversed(_settings(kind)):
            if field.name not in without:
                command = _option(path, field)(command)
        return command

    return decorate


def set_option(command: F) -> F:
    """Adds --set key=value."""
    return click.option(
        "--set",
        "assignments",
        metavar="KEY=VALUE",
        multiple=True,
        help="One setting, such as training.learning_rate=1e-4; may be repeated.",
    )(command)


def given_flags(keywords: Mapping[str, Any]) -> dict[str, Any]:
    """The settings among a command's keywords that were given, by name."""
    values = {name.removeprefix(_PREFIX): value for name, value in keywords.items() if name.startswith(_PREFIX)}
    return {
        name: list(value) if isinstance(value, tuple) else value
        for name, value in values.items()
        if value not in (None, ())
    }


def read_mapping(file: Path | None) -> dict[str, Any]:
    """The mapping in a YAML file; empty without a file."""
    from tunesmith import spec

    return spec.read_yaml(file.read_text(encoding="utf-8"), where=str(file)) if file else {}


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
    paths = dict(_settings(kind))
    key = key.removeprefix(f"{kind}.").replace("-", "_")
    full = next((path for path in paths if path.rpartition(".")[2] == key), key)
    *groups, name = full.split(".")
    for group in groups:
        above = above.setdefault(group, {})
        if not isinstance(above, dict):
            raise InvalidField.of([FieldProblem(f"{kind}.{full}", f"{group} is a setting, not a group of settings")])
    above[name] = value


def _settings(kind: str) -> list[tuple[str, FieldDescriptor]]:
    from tunesmith import spec
    from tunesmith.v1 import job_spec_pb2

    return list(spec.settings(type(getattr(job_spec_pb2.JobSpec(), kind)).DESCRIPTOR))


def _option(path: str, field: FieldDescriptor) -> Callable[[F], F]:
    from tunesmith import spec

    default = spec.default_of(field)
    shown = _short(field, default) if default is not None else None
    words = [_comments().get(f"{field.containing_type.name}.{field.name}", path)]  # type: ignore[union-attr]  # a field has one
    if shown is not None:
        words.append(f"[default: {shown}]")
    flag = "--" + field.name.replace("_", "-")
    names = [f"{flag}/--no-{flag[2:]}" if field.type == field.TYPE_BOOL else flag, f"{_PREFIX}{field.name}"]
    return click.option(
        *names,
        default=None,
        type=_type(field),
        multiple=field.is_repeated,
        metavar=None if field.enum_type or field.type == field.TYPE_BOOL else _metavar(field),
        help=" ".join(words),
    )


def _short(field: FieldDescriptor, default: Any) -> str:
    if field.enum_type is not None:
        from tunesmith import spec

        return spec.short_name(field, str(default))
    return str(default).lower() if isinstance(default, bool) else str(default)


def _type(field: FieldDescriptor) -> Any:
    if field.enum_type is not None:
        from tunesmith import spec

        return click.Choice(spec.choices(field), case_sensitive=False)
    kinds = {field.TYPE_INT32: int, field.TYPE_INT64: int, field.TYPE_DOUBLE: float, field.TYPE_BOOL: bool}
    return kinds.get(field.type, str)


def _metavar(field: FieldDescriptor) -> str:
    return {int: "N", float: "X"}.get(_type(field), "TEXT")


@cache
def _comments() -> dict[str, str]:
    """The comment of each field of job_spec.proto, by `Message.field`; empty where the file is not installed."""
    file = resources.files("tunesmith") / "v1" / "job_spec.proto"
    if not file.is_file():
        return {}
    found: dict[str, str] = {}
    message, words = "", list[str]()
    for line in file.read_text(encoding="utf-8").splitlines():
        text = line.strip()
        if text.startswith("//"):
            words.append(text.removeprefix("//").strip())
            continue
        if match := re.match(r"message (\w+) \{", text):
            message = match[1]
        elif match := re.match(r"(?:optional |repeated )?[\w.]+ (\w+) = \d+", text):
            found[f"{message}.{match[1]}"] = " ".join(words)
        words = []
    return found
