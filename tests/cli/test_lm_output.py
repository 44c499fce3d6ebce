"""A folder that holds something is not written over without a word, and what is not ours not at all."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from services.cli.lm_output import Target, TrainingExists, found, next_version, target
from services.cli.model import FolderNotEmpty
from services.cli.session import Session
from tests.cli.conftest import Run
from tests.cli.lm import TRAIN
from trainer_node.checkpoints import CheckpointFolder
from trainer_node.engines.tinylm import sealed
from trainer_node.engines.tinylm.synthetic import write_synthetic
from tunesmith.errors import InvalidField

Hold = Callable[[Path], None]


def write(path: Path, text: str = "{}") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def begun(folder: Path) -> None:
    write(folder / "stages" / "tokenizer.json")


def finished(folder: Path) -> None:
    begun(folder)
    write(folder / "best_model.pt")
    sealed.seal(folder, "stages/training.json", ["best_model.pt"], {})


def stopped(folder: Path) -> None:
    begun(folder)
    with CheckpointFolder(folder / "checkpoints", keep=1).commit(40) as writing:
        write(writing / "progress.json")


def downloaded(folder: Path) -> None:
    sealed.write_whole(folder / "tokenizer", "tokenizer.json", {"tokenizer.model": b"pieces"}, {})
    write(folder / "best_model.pt")
    write(folder / "README.md")


def damaged(folder: Path) -> None:
    stopped(folder)
    write(folder / "checkpoints" / "step-00000040" / "progress.json", "half")


def finished_and_damaged(folder: Path) -> None:
    finished(folder)
    write(folder / "best_model.pt", "half")


RESUMABLE = [(finished, "a finished training"), (stopped, "a training that stopped after step 40")]
LOST = [
    (downloaded, "a model"),
    (damaged, "a training that stopped after step 40"),
    (finished_and_damaged, "a finished training"),
]


def name_of(value: object) -> str:
    return getattr(value, "__name__", "")


@pytest.mark.parametrize(("hold", "words"), RESUMABLE, ids=name_of)
def test_whatever_a_folder_holds_is_named_with_the_three_ways_on(tmp_path: Path, hold: Hold, words: str) -> None:
    hold(tmp_path / "model")

    with pytest.raises(TrainingExists) as refused:
        target(Session(), tmp_path / "model", None)

    assert refused.value.message == (
        f"{tmp_path / 'model'} holds {words}; give --resume to go on with it, --restart to begin again (it goes), or "
        f"--new-version to leave it and write to {tmp_path / 'model-v2'}"
    )


@pytest.mark.parametrize("choice", [None, "resume"])
@pytest.mark.parametrize(("hold", "words"), LOST, ids=name_of)
def test_what_cannot_be_gone_on_with_is_not_begun_again_under_that_name(
    tmp_path: Path, hold: Hold, words: str, choice: None
) -> None:
    hold(tmp_path / "model")

    with pytest.raises(TrainingExists) as refused:
        target(Session(), tmp_path / "model", choice)

    assert refused.value.message == (
        f"{tmp_path / 'model'} holds {words}; no whole checkpoint is left to go on from; give --restart to begin again "
        f"(it goes), or --new-version to leave it and write to {tmp_path / 'model-v2'}"
    )


def test_a_model_without_checkpoints_is_not_offered_to_be_resumed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from services.cli import lm_output

    asked = []
    monkeypatch.setattr(lm_output, "is_interactive", lambda _: True)
    monkeypatch.setattr(
        lm_output.click, "prompt", lambda text, **more: asked.append(more["type"].choices) or more["default"]
    )
    downloaded(tmp_path / "model")

    chosen = target(Session(), tmp_path / "model", None)

    assert asked == [("restart", "new-version")]
    assert chosen == Target(tmp_path / "model", restarts=True)


def test_what_came_before_the_first_checkpoint_is_gone_on_with_unasked(tmp_path: Path) -> None:
    begun(tmp_path)

    assert found(tmp_path) == ""
    assert target(Session(), tmp_path, None) == Target(tmp_path)


def test_a_new_version_takes_the_first_name_that_is_free(tmp_path: Path) -> None:
    finished(tmp_path / "model")
    (tmp_path / "model-v2").mkdir()

    assert next_version(tmp_path / "model") == tmp_path / "model-v3"
    assert target(Session(), tmp_path / "model", "new-version").folder == tmp_path / "model-v3"


@pytest.mark.parametrize(("output", "shown"), [(".", "model"), ("..", "projects"), ("sub/..", "model")])
def test_a_folder_without_a_name_of_its_own_has_a_next_version_beside_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, output: str, shown: str
) -> None:
    here = tmp_path / "projects" / "model"
    (here / "sub").mkdir(parents=True)
    finished(here / output)
    monkeypatch.chdir(here)

    with pytest.raises(TrainingExists, match=f"write to {(here / output).resolve().parent}/{shown}-v2"):
        target(Session(), Path(output), None)


def project(folder: Path) -> None:
    """Text of somebody, in the places where a training would put its own."""
    write_synthetic(folder / "corpus" / "train", size_bytes=20_000)
    shutil.copytree(folder / "corpus" / "train", folder / "texts")
    write(folder / "README.md", "# My project\n")


@pytest.mark.parametrize(
    "given", [("--corpus-path", "corpus"), ("--corpus-source", "synthetic"), ("--corpus-path", "texts", "--restart")]
)
def test_files_of_somebody_else_are_neither_removed_nor_written_over(
    cli: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, given: tuple[str, ...]
) -> None:
    project(tmp_path)
    monkeypatch.chdir(tmp_path)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}

    result = cli(*TRAIN, *given, "--output", ".", "--epochs", "1")

    assert result.code == 4
    assert (
        "error[FOLDER_NOT_EMPTY]: . was not made by `tunesmith lm train`, which would write over README.md, corpus, "
        "texts in it; give a folder of its own, such as --output tiny-lm"
    ) in result.err
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


@pytest.mark.parametrize("name", ["README.md", "texts", "config.yaml", "best_model.pt", "checkpoints"])
def test_a_single_file_of_somebody_else_is_enough(tmp_path: Path, name: str) -> None:
    write(tmp_path / name)

    with pytest.raises(FolderNotEmpty):
        target(Session(), tmp_path, "restart")

    assert target(Session(), tmp_path, "new-version").folder == tmp_path.with_name(f"{tmp_path.name}-v2")


def test_a_folder_that_holds_other_things_is_written_to(tmp_path: Path) -> None:
    write(tmp_path / "notes.txt")
    write(tmp_path / "train.log")  # of a training that was refused

    assert target(Session(), tmp_path, None) == Target(tmp_path)


def test_there_is_nothing_to_resume_where_nothing_began(tmp_path: Path) -> None:
    with pytest.raises(InvalidField, match="holds nothing to resume; start without --resume"):
        target(Session(), tmp_path, "resume")
