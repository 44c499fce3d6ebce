"""How a base model is named on the command line."""

from __future__ import annotations

from pathlib import Path

import click
import pytest

from services.cli.base_models import MODELS_DIR, models_dir_and_name


def test_the_packaged_model_is_named_as_a_model_of_a_hub_is() -> None:
    found = models_dir_and_name("tunesmith/micro")

    assert found == (MODELS_DIR, "tunesmith/micro")


def test_a_folder_is_found_where_it_is(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()

    found = models_dir_and_name(str(tmp_path / "mine"))

    assert found == (tmp_path.resolve(), "mine")


@pytest.mark.parametrize("text", ["./nowhere", "~/nowhere-at-all", "a/b/c"])
def test_a_path_that_is_no_folder_is_refused_with_what_needs_none(text: str) -> None:
    with pytest.raises(click.UsageError, match="no such folder; tunesmith/micro comes with Tunesmith, and needs none"):
        models_dir_and_name(text)
