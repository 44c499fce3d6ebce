"""A folder that holds something is not written over without a word."""

from __future__ import annotations

from pathlib import Path

import pytest

from services.cli.lm_output import Target, TrainingExists, found, next_version, target
from services.cli.session import Session
from trainer_node.checkpoints import CheckpointFolder


def write(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("{}")


def finished(folder: Path) -> None:
    write(folder / "stages" / "training.json")


def stopped(folder: Path) -> None:
    with CheckpointFolder(folder / "checkpoints", keep=1).commit(40) as writing:
        write(writing / "progress.json")


def copied(folder: Path) -> None:
    write(folder / "final_model.pt")


HELD = [
    (finished, "a finished training"),
    (stopped, "a training that stopped after step 40"),
    (copied, "a model"),
]


@pytest.mark.parametrize(("hold", "words"), HELD, ids=lambda value: getattr(value, "__name__", ""))
def test_whatever_a_folder_holds_is_named_with_the_three_ways_on(tmp_path: Path, hold, words: str) -> None:
    hold(tmp_path / "model")

    with pytest.raises(TrainingExists) as refused:
        target(Session(), tmp_path / "model", None)

    assert refused.value.message == (
        f"{tmp_path / 'model'} holds {words}; give --resume to go on with it, --restart to begin again (it goes), or "
        f"--new-version to leave it and write to {tmp_path / 'model-v2'}"
    )


def test_what_came_before_the_first_checkpoint_is_gone_on_with_unasked(tmp_path: Path) -> None:
    write(tmp_path / "stages" / "tokenizer.json")

    assert found(tmp_path) == ""
    assert target(Session(), tmp_path, None) == Target(tmp_path)


def test_a_new_version_takes_the_first_name_that_is_free(tmp_path: Path) -> None:
    finished(tmp_path / "model")
    (tmp_path / "model-v2").mkdir()

    assert next_version(tmp_path / "model") == tmp_path / "model-v3"
    assert target(Session(), tmp_path / "model", "new-version").folder == tmp_path / "model-v3"
