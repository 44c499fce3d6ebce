"""Settings of the programs: a TOML file, above it the environment, above that flags.

Every program describes its settings as a frozen dataclass whose nested dataclasses are sections; nothing here knows a
setting by name. What is not described is refused: a misspelt key that is ignored costs a night.
"""

from __future__ import annotations

import dataclasses
import difflib
import tomllib
import types
import typing
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

PREFIX = "TUNESMITH_"

C = TypeVar("C")


class ConfigError(Exception):
    """A program cannot start as it is set up. The text names the key, and what to do."""

    exit_code = 2


def load(
    kind: type[C],
    *,
    file: Path | None = None,
    environ: Mapping[str, str] | None = None,
    flags: Mapping[str, object] | None = None,
) -> C:
    """Settings of `kind`. flags: by dotted key, such as `dispatch.lease_s`; None stands for a flag that was not given.

    Raises ConfigError with every problem that was found, one a line.
    """
    known = dict(_settings(kind))
    problems: list[str] = []
    given: dict[str, tuple[str, object]] = {}
    given |= {key: (_in_file(key), value) for key, value in _from_file(file, kind, problems)}
    given |= {key: (_variable(key), value) for key, value in _from_environment(environ or {}, kind, problems)}
    given |= {key: (f"--{key.rpartition('.')[2].replace('_', '-')}", value) for key, value in _set(flags or {})}
    values: dict[str, object] = {}
    for key, (where, value) in given.items():
        if key not in known:
            problems.append(f"{where}: {_unknown(key, known)}")
            continue
        try:
            values[key] = _coerced(value, known[key])
        except ValueError as error:
            problems.append(f"{where}: {error}")
    problems += [f"{_in_file(key)}: missing; set it" for key in _required(kind) if key not in given]
    if problems:
        raise ConfigError("\n".join(problems))
    return _build(kind, values, "")


def describe(kind: type) -> Iterator[tuple[str, str, object]]:
    """Every setting of `kind` as (dotted key, environment variable, default); MISSING where it has none."""
    defaults = dict(_defaults(kind))
    for key, _ in _settings(kind):
        yield key, _variable(key), defaults[key]


def _settings(kind: type, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """(dotted key, type) of every setting."""
    hints = typing.get_type_hints(kind)
    for field in dataclasses.fields(kind):
        hint = hints[field.name]
        if dataclasses.is_dataclass(hint) and isinstance(hint, type):
            yield from _settings(hint, f"{prefix}{field.name}.")
        else:
            yield f"{prefix}{field.name}", hint


def _defaults(kind: type, prefix: str = "") -> Iterator[tuple[str, object]]:
    hints = typing.get_type_hints(kind)
    for field in dataclasses.fields(kind):
        hint = hints[field.name]
        if dataclasses.is_dataclass(hint) and isinstance(hint, type):
            yield from _defaults(hint, f"{prefix}{field.name}.")
        elif field.default_factory is not dataclasses.MISSING:
            yield f"{prefix}{field.name}", field.default_factory()
        else:
            yield f"{prefix}{field.name}", field.default


def _required(kind: type) -> list[str]:
    return [key for key, default in _defaults(kind) if default is dataclasses.MISSING]


def _from_file(file: Path | None, kind: type, problems: list[str]) -> Iterator[tuple[str, object]]:
    if file is None:
        return
    try:
        content = tomllib.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"{file}: cannot be read ({error.strerror}); check the path") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{file}: not valid TOML: {error}") from error
    yield from _flat(content, kind, "", problems)


def _flat(content: Mapping[str, Any], kind: type, prefix: str, problems: list[str]) -> Iterator[tuple[str, object]]:
    """Leaves of a TOML document by dotted key; a table that is no section is a problem of its own."""
    hints = typing.get_type_hints(kind)
    for key, value in content.items():
        section = hints.get(key)
        if isinstance(section, type) and dataclasses.is_dataclass(section):
            if isinstance(value, dict):
                yield from _flat(value, section, f"{prefix}{key}.", problems)
            else:
                problems.append(f"{prefix}{key}: is a section; write [{prefix}{key}] and its keys below it")
        elif isinstance(value, dict) and section is None:
            sections = [name for name, hint in hints.items() if dataclasses.is_dataclass(hint)]
            problems.append(f"[{prefix}{key}]: {_suggest(key, sections, 'section')}")
        else:
            yield f"{prefix}{key}", value


def _from_environment(environ: Mapping[str, str], kind: type, problems: list[str]) -> Iterator[tuple[str, str]]:
    """Variables that are settings. Others with our prefix may be another program's, unless a section of ours begins
    them."""
    variables = {_variable(key): key for key, _ in _settings(kind)}
    sections = {_variable(key.rpartition(".")[0]) + "_" for key in variables.values() if "." in key}
    for name, value in environ.items():
        if name in variables:
            yield variables[name], value
        elif any(name.startswith(section) for section in sections):
            problems.append(f"{name}: {_suggest(name, list(variables), 'variable')}")


def _set(flags: Mapping[str, object]) -> Iterator[tuple[str, object]]:
    return ((key, value) for key, value in flags.items() if value is not None)


def _variable(key: str) -> str:
    return PREFIX + key.replace(".", "_").upper()


def _in_file(key: str) -> str:
    """A key as it stands in the file: `[dispatch] lease_s`."""
    section, _, name = key.rpartition(".")
    return f"[{section}] {name}" if section else name


def _unknown(key: str, known: Mapping[str, object]) -> str:
    section, _, name = key.rpartition(".")
    siblings = [other.rpartition(".")[2] for other in known if other.rpartition(".")[0] == section]
    homes = [other for other in known if other.rpartition(".")[2] == name]
    if homes and not difflib.get_close_matches(name, siblings, n=1):
        return f"unknown here; it belongs under {_in_file(homes[0])}"
    return _suggest(name, siblings, "key")


def _suggest(name: str, candidates: list[str], what: str) -> str:
    near = difflib.get_close_matches(name, candidates, n=1, cutoff=0.6)
    return f"did you mean {near[0]}?" if near else f"unknown {what}; known: {', '.join(sorted(candidates))}"


def _coerced(value: object, kind: Any) -> object:
    """`value` as `kind`. Texts are read (the environment has nothing else); raises ValueError saying what is wanted."""
    if typing.get_origin(kind) in (typing.Union, types.UnionType):
        (inner,) = [option for option in typing.get_args(kind) if option is not type(None)]
        return None if value in (None, "") else _coerced(value, inner)
    if typing.get_origin(kind) is tuple:
        items = value.split(",") if isinstance(value, str) else value
        if not isinstance(items, (list, tuple)):
            raise ValueError(f"must be a list (given: {value!r})")
        return tuple(
            _coerced(item.strip() if isinstance(item, str) else item, typing.get_args(kind)[0]) for item in items
        )
    if kind is bool:
        return _boolean(value)
    if kind is int or kind is float:
        return _number(value, kind)
    if kind in (str, Path) and isinstance(value, (str, Path)):
        return Path(value).expanduser() if kind is Path else str(value)
    raise ValueError(f"must be a text (given: {value!r})")


def _boolean(value: object) -> bool:
    words = {"true": True, "1": True, "yes": True, "on": True, "false": False, "0": False, "no": False, "off": False}
    found = value if isinstance(value, bool) else words.get(str(value).lower()) if isinstance(value, str) else None
    if found is None:
        raise ValueError(f"must be true or false (given: {value!r})")
    return found


def _number(value: object, kind: type[int] | type[float]) -> float:
    wanted = "a whole number" if kind is int else "a number"
    if (
        isinstance(value, bool)
        or not isinstance(value, (int, float, str))
        or (kind is int and isinstance(value, float))
    ):
        raise ValueError(f"must be {wanted} (given: {value!r})")
    try:
        return kind(value)
    except ValueError as error:
        raise ValueError(f"must be {wanted} (given: {value!r})") from error


def _build(kind: type[C], values: Mapping[str, object], prefix: str) -> C:
    hints = typing.get_type_hints(kind)
    arguments: dict[str, Any] = {}
    for field in dataclasses.fields(typing.cast(Any, kind)):
        hint, key = hints[field.name], f"{prefix}{field.name}"
        if isinstance(hint, type) and dataclasses.is_dataclass(hint):
            arguments[field.name] = _build(hint, values, f"{key}.")
        elif key in values:
            arguments[field.name] = values[key]
    try:
        return kind(**arguments)
    except ValueError as error:  # a dataclass that checks a combination of its fields says which
        raise ConfigError(f"{_in_file(prefix.rstrip('.')) or 'settings'}: {error}") from error
