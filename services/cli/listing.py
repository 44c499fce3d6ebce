"""What every list command shares: --limit and --all, and a word where there is more."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, TypeVar

import click

from services.cli.output import Column
from services.cli.session import Session

F = TypeVar("F", bound=Callable[..., Any])

DEFAULT_LIMIT = 50


def limit_options(command: F) -> F:
    """Adds --limit and --all."""
    command = click.option("--all", "every", is_flag=True, help="Show everything, page by page.")(command)
    return click.option(
        "--limit",
        metavar="N",
        type=click.IntRange(1),
        default=DEFAULT_LIMIT,
        show_default=True,
        help="At most so many.",
    )(command)


def show_list(
    session: Session,
    call: Callable[[Any], Any],
    request: Any,
    columns: Iterable[Column],
    *,
    limit: int,
    every: bool,
) -> None:
    """Read a list and print it; says on stderr where it goes on."""
    from tunesmith.client.lists import entries, read_list

    response = read_list(call, request, limit=None if every else limit)
    session.out.entries(response, entries(response), columns)
    if response.next_page_token:
        session.out.note(f"there are more than {limit}; use --limit or --all")
