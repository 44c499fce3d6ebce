"""Markdown as reports want it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence


def table(title: str, rows: Mapping[str, str]) -> str:
    """A section with a table of two columns. A name or value may hold anything: it stays in its cell."""
    return "\n".join([f"## {title}", "", "| | |", "| --- | --- |", *(_row(cells) for cells in rows.items())])


def grid(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table with a head, as `table` but for its columns."""
    return "\n".join([_row(head), "| " + " | ".join("---" for _ in head) + " |", *(_row(cells) for cells in rows)])


def _row(cells: Iterable[str]) -> str:
    return "| " + " | ".join(_cell(cell) for cell in cells) + " |"


def _cell(text: str) -> str:
    return " ".join(text.replace("|", "\\|").splitlines())
