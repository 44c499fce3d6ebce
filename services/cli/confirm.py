"""Asking before something is gone."""

from __future__ import annotations

import sys

import click

from services.cli.terminal import is_interactive


def confirm(what: str, name: str, *, yes: bool) -> None:
    """Have the name typed in before `what` is done to it; off a terminal --yes is needed."""
    if yes:
        return
    if not is_interactive(sys.stdin):
        raise click.UsageError(f"this would {what} {name}; add --yes to do it without being asked")
    if click.prompt(f"This will {what} {name}. Type its name to go on", err=True, default="") != name:
        raise click.UsageError(f"{name} was left as it is")
