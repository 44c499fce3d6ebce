"""Labels on the command line: `--label key=value`, repeated."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import click

F = TypeVar("F", bound=Callable[..., Any])


def label_option(command: F) -> F:
    """Adds --label."""
    return click.option(
        "--label", "labels", metavar="KEY=VALUE", multiple=True, help="A label; may be repeated. KEY= takes it away."
    )(command)


def labels_of(pairs: Sequence[str]) -> dict[str, str]:
    """The labels that were given, those to take away with an empty value."""
    labels = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not (key and equals):
            raise click.UsageError(f"--label {pair!r}: write KEY=VALUE")
        labels[key] = value
    return labels


def changed(before: dict[str, str], given: dict[str, str]) -> dict[str, str]:
    """`before` with the given labels set, and those with an empty value gone."""
    return {key: value for key, value in (before | given).items() if value or key not in given}
