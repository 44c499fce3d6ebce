"""Settings of the programs: a TOML file, above it the environment, above that flags.

Every program describes its settings as a frozen dataclass; its fields stand in one table of the file, and each nested
dataclass is a table of its own. Nothing here knows a setting by name. What is not described is refused: a misspelt key
that is ignored costs a night.
"""

from __future__ import annotations

import dataclasses
import difflib
import tomllib
import types
import typing
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

from control_plane.config import ControlPlaneConfig
from trainer_node.config import TrainerNodeConfig
from tunesmith.errors import TunesmithError

PREFIX = "TUNESMITH_"

C = TypeVar("C")
Key = str
"""`table.name`, such as `dispatch.lease_s`."""


class ConfigError(Exception):
    """A program cannot start as it is set up. The text names the key, and what to do."""

    exit_code = 2


def load_control_plane(
    file: Path | None, environ: Mapping[str, str], flags: Mapping[Key, object]
) -> ControlPlaneConfig:
    """Settings of the control plane, of a file that may hold a node's as well."""
    return load(ControlPlaneConfig, "control_plane", file=file, environ=environ, flags=flags, foreign={"node"})


def load_node(file: Path | None, environ: Mapping[str, str], flags: Mapping[Key, object]) -> TrainerNodeConfig:
    """Settings of a trainer node, of a file that may hold the control plane's as well."""
    foreign = {"control_plane", *_tables(ControlPlaneConfig, "control_plane")}
    return load(TrainerNodeConfig, "node", file=file, environ=environ, flags=flags, foreign=foreign)


def load(
    kind: type[C],
    table: str,
    *,
    file: Path | None = None,
    environ: Mapping[str, str] | None = None,
    flags: Mapping[Key, object] | None = None,
    foreign: Collection[str] = (),
) -> C:
    """Settings of `kind`, whose own fields stand in `table`.

    flags: by key; None stands for a flag that was not given. foreign: tables that another program reads.
    Raises ConfigError with every problem that was found, one a line.
    """
    known = {key: hint for key, hint, _ in _settings(kind, table)}
    problems: list[str] = []
    given: dict[Key, tuple[str, object]] = {}
    given |= {key: (_in_file(key), value) for key, value in _from_file(file, known, table, foreign, problems)}
    given |= {key: (variable_of(key), value) for key, value in _from_environment(environ or {}, known, problems)}
    given |= {key: (_flag(key), value) for key, value in (flags or {}).items() if value is not None}
    values: dict[Key, object] = {}
    for key, (where, value) in given.items():
        try:
            values[key] = _coerced(value, known[key]) if key in known else _refuse(_unknown(key, known))
        except ValueError as error:
            problems.append(f"{where}: {error}")
    if problems:
        raise ConfigError("\n".join(problems))
    return _build(kind, table, values)


def describe(kind: type, table: str) -> Iterator[tuple[Key, str, object]]:
    """Every setting of `kind` as (key, environment variable, default)."""
    for key, _, default in _settings(kind, table):
        yield key, variable_of(key), default


def variable_of(key: Key) -> str:
    """The environment variable of a setting: `dispatch.lease_s` is TUNESMITH_DISPATCH_LEASE_S."""
    return PREFIX + key.replace(".", "_").upper()


def _settings(kind: type, table: str) -> Iterator[tuple[Key, Any, object]]:
    """(key, type, default) of every setting."""
    hints = typing.get_type_hints(kind)
    for field in dataclasses.fields(kind):
        hint = hints[field.name]
        if _is_table(hint):
            yield from _settings(hint, field.name)
        elif field.default_factory is not dataclasses.MISSING:
            yield f"{table}.{field.name}", hint, field.default_factory()
        else:
            yield f"{table}.{field.name}", hint, field.default


def _tables(kind: type, table: str) -> set[str]:
    return {key.partition(".")[0] for key, _, _ in _settings(kind, table)}


def _is_table(hint: Any) -> bool:
    return isinstance(hint, type) and dataclasses.is_dataclass(hint)


def _from_file(
    file: Path | None, known: Mapping[Key, Any], own: str, foreign: Collection[str], problems: list[str]
) -> Iterator[tuple[Key, object]]:
    if file is None:
        return
    try:
        content = tomllib.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"{file}: cannot be read ({error.strerror}); check the path") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{file}: not valid TOML: {error}") from error
    tables = {key.partition(".")[0] for key in known}
    for name, value in content.items():
        if name in foreign:
            continue
        if name in tables and isinstance(value, dict):
            yield from ((f"{name}.{key}", item) for key, item in value.items())
        elif isinstance(value, dict):
            problems.append(f"[{name}]: {_suggest(name, [*tables, *foreign], 'table')}")
        elif name in tables:
            problems.append(f"{name}: is a table; write [{name}] and its keys below it")
        else:
            problems.append(f"{name}: {_unknown(f'.{name}', known)}")


def _from_environment(
    environ: Mapping[str, str], known: Mapping[Key, Any], problems: list[str]
) -> Iterator[tuple[Key, str]]:
    """Variables that are settings. Others with our prefix may be another program's, unless a table of ours begins
    them."""
    variables = {variable_of(key): key for key in known}
    tables = tuple(variable_of(key.partition(".")[0]) + "_" for key in known)
    for name, value in environ.items():
        if name in variables:
            yield variables[name], value
        elif name.startswith(tables):
            problems.append(f"{name}: {_suggest(name, list(variables), 'variable')}")


def _flag(key: Key) -> str:
    return "--" + key.rpartition(".")[2].replace("_", "-")


def _in_file(key: Key) -> str:
    """A key as it stands in the file: `[dispatch] lease_s`."""
    table, _, name = key.rpartition(".")
    return f"[{table}] {name}"


def _refuse(what: str) -> object:
    raise ValueError(what)


def _unknown(key: Key, known: Mapping[Key, object]) -> str:
    """Where an unknown key belongs, or what it may have been meant to be."""
    table, _, name = key.rpartition(".")
    siblings = [other.rpartition(".")[2] for other in known if other.rpartition(".")[0] == table]
    homes = [other for other in known if other.rpartition(".")[2] == name]
    if homes and not difflib.get_close_matches(name, siblings, n=1):
        return f"unknown here; write it as {_in_file(homes[0])}"
    return _suggest(name, siblings or [other.rpartition(".")[2] for other in known], "key")


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
        inner = typing.get_args(kind)[0]
        return tuple(_coerced(item.strip() if isinstance(item, str) else item, inner) for item in items)
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
        return kind(typing.cast(Any, value))
    except ValueError as error:
        raise ValueError(f"must be {wanted} (given: {value!r})") from error


def _build(kind: type[C], table: str, values: Mapping[Key, object]) -> C:
    hints = typing.get_type_hints(kind)
    arguments: dict[str, Any] = {}
    for field in dataclasses.fields(typing.cast(Any, kind)):
        hint, key = hints[field.name], f"{table}.{field.name}"
        if _is_table(hint):
            arguments[field.name] = _build(hint, field.name, values)
        elif key in values:
            arguments[field.name] = values[key]
    try:
        return kind(**arguments)
    except TunesmithError as error:  # a dataclass that checks its fields says which, and what to do
        raise ConfigError("\n".join(str(field) for field in error.fields) or error.message) from error
    except ValueError as error:
        raise ConfigError(str(error)) from error
