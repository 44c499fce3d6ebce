"""Markdown that reports are made of."""

from __future__ import annotations

from trainer_node.markdown import grid, table


def test_whatever_a_cell_holds_stays_in_it() -> None:
    text = table("Settings", {"a|b": "first\nsecond | third"})

    assert text.splitlines() == ["## Settings", "", "| | |", "| --- | --- |", "| a\\|b | first second \\| third |"]


def test_a_grid_has_a_head_and_as_many_columns() -> None:
    text = grid(("what", "how|much"), [("loss", "1.5"), ("a\r\nb", "2")])

    assert text.splitlines() == ["| what | how\\|much |", "| --- | --- |", "| loss | 1.5 |", "| a b | 2 |"]
