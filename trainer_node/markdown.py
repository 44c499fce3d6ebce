"""Markdown as reports want it."""

from __future__ import annotations

from collections.abc import Mapping


def table(title: str, rows: Mapping[str, str]) -> str:
    """A section with a table of two columns. A name or value may hold anything: it stays in its cell."""
    lines = [f"| {_cell(name)} | {_cell(value)} |" for name, value in rows.items()]
    return "\n".join([f"## {title}", "", "| | |", "| --- | --- |", *lines])


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")
