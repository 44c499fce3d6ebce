"""The page of what is heard has no number that was not measured."""

from __future__ import annotations

import re

from tests.bench import heard_page


def test_every_table_of_the_page_is_as_the_figures_give_it():
    page = heard_page.PAGE.read_text(encoding="utf-8")

    assert heard_page.with_tables(page) == page


def test_every_picture_of_the_page_is_there():
    shown = set(re.findall(r"\]\(heard/([^)]+)\)", heard_page.PAGE.read_text(encoding="utf-8")))

    assert shown == {path.name for path in heard_page.FOLDER.iterdir()}
