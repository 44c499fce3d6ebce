"""Markdown that reports are made of."""

from __future__ import annotations

from trainer_node.markdown import table


def test_whatever_a_cell_holds_stays_in_it() -> None:
    text = table("Settings", {"a|b": "first\nsecond | third"})

    assert text.splitlines() == ["## Settings", "", "| | |", "| --- | --- |", "| a\\|b | first second \\| third |"]
