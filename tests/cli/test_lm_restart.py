"""`tunesmith lm train --restart`: what is there goes, once and only when something better can come."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.conftest import Run


def test_restarting_begins_again_and_a_new_version_leaves_what_is_there(train: Run, out: Path):
    train()
    model = (out / "best_model.pt").read_bytes()

    beside = train("--new-version", "--learning-rate", "0.02")
    kept = (out / "best_model.pt").read_bytes()
    restarted = train("--restart", "--learning-rate", "0.02")

    assert (beside.code, restarted.code) == (0, 0)
    assert kept == model
    assert "name=tokenizer state=unchanged" in restarted.out
    assert (out / "best_model.pt").read_bytes() != model
    assert (out / "best_model.pt").read_bytes() == (out.with_name("model-v2") / "best_model.pt").read_bytes()


def test_restarting_with_the_same_settings_trains_again(train: Run, out: Path):
    train()
    model, before = (out / "best_model.pt").read_bytes(), (out / "best_model.pt").stat().st_mtime_ns

    again = train("--restart")

    assert again.code == 0
    assert "name=tokenizer state=unchanged" in again.out
    assert "name=training state=done" in again.out
    assert (out / "best_model.pt").read_bytes() == model
    assert (out / "best_model.pt").stat().st_mtime_ns > before


@pytest.mark.parametrize(
    "given",
    [("--corpus-path", "latin-1.txt"), ("--corpus-path", "empty"), ("--vocab-size", "60000"), ("--heads", "3")],
    ids=" ".join,
)
def test_a_model_stays_until_the_training_that_replaces_it_can_begin(
    cli: Run, train: Run, out: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, given: tuple[str, ...]
):
    train()
    before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file() and path.name != "train.log"}
    (tmp_path / "latin-1.txt").write_bytes(b"caf\xe9\n" * 400)
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path)

    failed = train("--restart", *given)

    assert failed.code == 2
    assert {path: path.read_bytes() for path in before} == before
    assert cli("lm", "train", "--output", str(out), "--resume").out.count("state=unchanged") == 7


def test_a_training_that_replaces_another_leaves_nothing_of_its_report(
    train: Run, out: Path, monkeypatch: pytest.MonkeyPatch
):
    from trainer_node.engines.tinylm import pretrain

    def broken(*_: object) -> float:
        raise RuntimeError("the power went")

    train()
    monkeypatch.setattr(pretrain, "learning_rate", broken)

    result = train("--restart", "--learning-rate", "0.02")

    assert result.code == 7
    left = {path.name for path in out.iterdir()}
    assert left == {"config.yaml", "corpus", "tokenizer", "tokens", "checkpoints", "stages", "train.log", ".lock"}
    assert "learning_rate: 0.02" in (out / "config.yaml").read_text()
