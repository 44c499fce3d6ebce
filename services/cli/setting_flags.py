"""A flag for each setting of a training.

The flags come from the contract: name, type, range and default from the descriptors, the help from the comments of
job_spec.proto. Nothing here knows a setting by name.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cache
from importlib import resources
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from google.protobuf.descriptor import FieldDescriptor

F = TypeVar("F", bound=Callable[..., Any])

_PREFIX = "setting__"  # parameters of the flags, so that they never meet a command's own


def setting_flags(*kinds: str, without: tuple[str, ...] = ()) -> Callable[[F], F]:
    """Adds a flag for each setting of these kinds of training; the values arrive as keywords for `given_flags`.

    A flag of one kind shows the default of that kind; of several, all defaults, and whose setting it is.
    """

    def decorate(command: F) -> F:
        for name, fields in reversed(_fields(kinds).items()):
            if name not in without:
                command = _option(name, fields, kinds)(command)
        return command

    return decorate


def given_flags(keywords: Mapping[str, Any]) -> dict[str, Any]:
    """The settings among a command's keywords that were given, by name."""
    values = {name.removeprefix(_PREFIX): value for name, value in keywords.items() if name.startswith(_PREFIX)}
    return {
        name: list(value) if isinstance(value, tuple) else value
        for name, value in values.items()
        if value not in (None, ())
    }


def settings_of(kind: str) -> list[tuple[str, FieldDescriptor]]:
    """Every setting of a kind of training, as (dotted path, field)."""
    from tunesmith import spec
    from tunesmith.v1 import job_spec_pb2

    return list(spec.settings(type(getattr(job_spec_pb2.JobSpec(), kind)).DESCRIPTOR))


def _fields(kinds: Sequence[str]) -> dict[str, dict[str, FieldDescriptor]]:
    """The settings of these kinds by name, each as its field by kind."""
    found: dict[str, dict[str, FieldDescriptor]] = {}
    for kind in kinds:
        for _, field in settings_of(kind):
            found.setdefault(field.name, {})[kind] = field
    return found


def _option(name: str, fields: Mapping[str, FieldDescriptor], kinds: Sequence[str]) -> Callable[[F], F]:
    """The flag of a setting. fields: what it is in each kind that has it."""
    field = next(iter(fields.values()))
    flag = "--" + name.replace("_", "-")
    names = [f"{flag}/--no-{flag[2:]}" if field.type == field.TYPE_BOOL else flag, f"{_PREFIX}{name}"]
    return click.option(
        *names,
        default=None,
        type=_type(fields.values()),
        multiple=field.is_repeated,
        metavar=None if field.enum_type or field.type == field.TYPE_BOOL else _metavar(field),
        help=_help(fields, kinds),
    )


def _help(fields: Mapping[str, FieldDescriptor], kinds: Sequence[str]) -> str:
    """What a setting is and its default; with the kinds in front where some do not have it, or another one."""
    sharing: dict[str, list[str]] = {}
    for kind, field in fields.items():
        sharing.setdefault(field.full_name, []).append(kind)
    said: dict[str, list[str]] = {}
    for alike in sharing.values():
        words = _described(fields[alike[0]], alike[0] if len(alike) == 1 else "")
        said.setdefault(words, []).extend(alike)
    if len(fields) == len(kinds) and len(said) == 1:
        return next(iter(said))
    return " ".join(f"{', '.join(alike)}: {words}" for words, alike in said.items())


def _described(field: FieldDescriptor, kind: str) -> str:
    from tunesmith.setting_words import default_words

    words = _comments().get(f"{field.containing_type.name}.{field.name}", field.name)  # type: ignore[union-attr]  # a field has one
    default = default_words(field, kind=kind)
    return f"{words} [default: {default}]" if default else words


def _type(fields: Iterable[FieldDescriptor]) -> Any:
    first, *_ = fields = list(fields)
    if first.enum_type is not None:
        from tunesmith import spec

        choices = dict.fromkeys(name for field in fields for name in spec.choices(field))
        return click.Choice(list(choices), case_sensitive=False)
    kinds = {first.TYPE_INT32: int, first.TYPE_INT64: int, first.TYPE_DOUBLE: float, first.TYPE_BOOL: bool}
    return kinds.get(first.type, str)


def _metavar(field: FieldDescriptor) -> str:
    return {int: "N", float: "X"}.get(_type([field]), "TEXT")


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
