"""Flags of the services: one for each setting of their configuration, with its own words and default.

The settings are described by dataclasses (`services.settings`); what is written beside a field is its help.
"""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar, get_type_hints

import click

F = TypeVar("F", bound=Callable[..., Any])

_COMMENT = re.compile(r"^ {4}(\w+): .*?  # (.+)$", re.MULTILINE)


def service_options(command: F) -> F:
    """Adds --config."""
    return click.option(
        "--config",
        type=click.Path(exists=True, dir_okay=False, path_type=Path),
        envvar="TUNESMITH_CONFIG",
        help="TOML file with the settings; its keys are the flags, in tables.",
    )(command)


def node_flags(command: F) -> F:
    """Adds a flag for each setting of a trainer node."""
    from services.settings import load_node

    return _flags(get_type_hints(load_node)["return"], "node")(command)


def control_plane_flags(command: F) -> F:
    """Adds a flag for each setting of the control plane."""
    from services.settings import load_control_plane

    return _flags(get_type_hints(load_control_plane)["return"], "control_plane")(command)


def by_key(flags: Mapping[str, Any]) -> dict[str, object]:
    """The values of the flags by the keys that `services.settings` takes; None for one that was not given."""
    return {name.replace("__", "."): value for name, value in flags.items()}


def _flags(kind: type, table: str) -> Callable[[F], F]:
    from services.settings import describe

    source = inspect.getsource(sys.modules[kind.__module__])
    words = {name: text for name, text in _COMMENT.findall(source)}  # noqa: C416  # findall gives tuples of any

    def decorate(command: F) -> F:
        for key, variable, default in reversed(list(describe(kind, table))):
            command = _option(key, variable, default, words)(command)
        return command

    return decorate


def _option(key: str, variable: str, default: object, words: dict[str, str]) -> Callable[[F], F]:
    group, _, name = key.rpartition(".")
    flag = name.replace("_", "-")
    shown = (
        "" if default in (None, "") else f" [default: {str(default).lower() if default in (True, False) else default}]"
    )
    text = f"[{group}] {words.get(name, '')} ({variable}){shown}"
    names = f"--{flag}/--no-{flag}" if isinstance(default, bool) else f"--{flag}"
    return click.option(
        names, _parameter(key), default=None, metavar=None if isinstance(default, bool) else "VALUE", help=text
    )


def _parameter(key: str) -> str:
    return key.replace(".", "__")
