"""A pipeline as a whole: what it leaves, and which of its stages are done again."""

from __future__ import annotations

import json
import shutil
import xml.etree.ElementTree as ET
from pathlib import Path
from threading import Event
from typing import Any

import pytest
import torch

from tests.tinylm.pipelines import Heard, run, text
from trainer_node import checkpoints
from trainer_node.engines.tinylm import artefacts, corpus, layout, sealed, sources, stages, tokenizer
from trainer_node.engines.tinylm.errors import CorpusInvalid, SourcesUnavailable
from tunesmith.v1 import job_event_pb2

ALL = ["corpus", "tokenizer", "tokens", "training", "validation", "samples", "report"]
MODELS = ("best_model.pt", "final_model.pt")


@pytest.fixture(scope="module")
def texts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small corpus; never changed."""
    return text(tmp_path_factory.mktemp("texts"))


@pytest.fixture(scope="module")
def made(texts: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Heard, Any]:
    """A finished pipeline with what was heard of it; never changed."""
    output, heard = tmp_path_factory.mktemp("made"), Heard()
    return output, heard, run(output, texts, heard=heard)


@pytest.fixture
def output(made: tuple[Path, Heard, Any], tmp_path: Path) -> Path:
    """A copy of the finished pipeline's folder, to be changed."""
    return Path(shutil.copytree(made[0], tmp_path / "output"))


def test_everything_that_was_promised_is_there(made: tuple[Path, Heard, Any]):
    output, heard, outcome = made

    files = {path.relative_to(output).as_posix() for path in output.rglob("*") if path.is_file()}
    assert {*MODELS, "training_history.json", "report.md", "loss.svg", "README.md", "report.json",
            "tokenizer/tokenizer.model", "tokenizer/tokenizer.vocab"} <= files  # fmt: skip
    assert [end.name for end in heard.ends] == ["preflight", *ALL] == list(heard.names)
    kept = [file.path for file in outcome.model_files]
    assert isinstance(outcome, job_event_pb2.JobSucceeded)
    assert {*MODELS, "tokenizer/tokenizer.model", "loss.svg"} <= set(kept)
    assert not list(output.rglob(".*.new"))


def test_models_are_tensors_and_plain_values_that_say_what_they_are_of(made: tuple[Path, Heard, Any]):
    output, _, _ = made

    files = {name: artefacts.read(output / name) for name in MODELS}

    assert all(isinstance(one, torch.Tensor) for file in files.values() for one in file["weights"].values())
    about = {name: file["config"]["about"] for name, file in files.items()}
    assert about["final_model.pt"]["epoch"] == 2
    assert about["best_model.pt"]["tokenizer"] == tokenizer.load(output / "tokenizer").fingerprint
    assert about["best_model.pt"]["corpus"] == corpus.load(output / "corpus").digest


def test_the_training_is_told_by_events_and_epochs(made: tuple[Path, Heard, Any]):
    output, heard, _ = made

    (started,) = heard.of("started")
    rows = [(list(batch.names), batch.steps[0]) for batch in heard.of("metrics")]
    history = json.loads((output / "training_history.json").read_text())
    assert started.total_epochs == 2
    assert started.total_steps == history["epochs"][-1]["step"] == rows[-1][1]
    assert started.trainable_parameters == history["parameters"]
    assert started.training_samples > started.validation_samples > 0
    assert [saved.epoch for saved in heard.of("checkpoint_saved")] == [1, 2]
    assert any("loss" in names and "learning_rate" in names for names, _ in rows)
    assert [summary.epoch for summary in heard.epochs] == [1, 2]
    assert heard.epochs[1].train_loss < heard.epochs[0].train_loss


def test_the_report_has_the_curve_the_samples_and_the_settings(made: tuple[Path, Heard, Any]):
    output, heard, _ = made
    page = (output / "report.md").read_text()

    picture = ET.fromstring((output / "loss.svg").read_text())

    assert "](loss.svg)" in page
    assert len(picture.findall("{http://www.w3.org/2000/svg}polyline")) == 2
    assert "## Samples after epoch 1" in page and "## Samples of the best model" in page
    assert "| training.learning_rate | 0.01 |" in page
    assert [sample.epoch for sample in heard.samples[:4]] == [1, 1, 2, 2]
    assert "## Validation by language" in page


def test_every_name_that_is_written_over_is_known_to_whoever_asks_before(made: tuple[Path, Heard, Any]):
    output, _, _ = made

    assert {path.name for path in output.iterdir()} <= layout.WRITTEN


@pytest.mark.parametrize("place", ["corpus/train", "texts", "tokens"])
def test_text_that_lies_where_the_pipeline_writes_is_refused_and_stays(tmp_path: Path, texts: Path, place: str):
    mine = Path(shutil.copytree(texts, tmp_path / place)) / "en.txt"

    with pytest.raises(CorpusInvalid, match=f"en.txt lies in {tmp_path / place.partition('/')[0]}, which a training "):
        run(tmp_path, mine)

    assert mine.read_bytes() == (texts / "en.txt").read_bytes()


def test_text_that_no_program_wrote_is_not_replaced_by_synthetic_text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(sources, "fetch", unreachable)
    mine = tmp_path / "texts" / "en.txt"
    mine.parent.mkdir()
    mine.write_text("Dear diary.\n")

    with pytest.raises(CorpusInvalid, match="holds text that no program wrote; move it, or give it with --corpus-path"):
        run(tmp_path, None, may_fall_back=True)

    assert mine.read_text() == "Dear diary.\n"


def test_a_second_run_does_nothing_again(output: Path, texts: Path):
    heard = Heard()

    outcome = run(output, texts, heard=heard, resume=True)

    assert heard.done == []
    assert isinstance(outcome, job_event_pb2.JobSucceeded)


@pytest.mark.parametrize(
    ("damaged", "again"),
    [
        ("corpus/train/en.txt", ["corpus"]),
        ("corpus/corpus.json", ["corpus"]),
        ("stages/corpus.json", ["corpus"]),
        ("tokenizer/tokenizer.model", ["tokenizer"]),
        ("tokenizer/tokenizer.json", ["tokenizer"]),
        ("tokens/train.bin", ["tokens"]),
        ("training_history.json", ["training"]),
        ("best_model.pt", ["training"]),
        ("loss.svg", ["report"]),
    ],
)
@pytest.mark.parametrize("how", ["cut", "gone"])
def test_what_is_not_whole_is_made_again_and_comes_out_the_same(
    output: Path, texts: Path, made: tuple[Path, Heard, Any], damaged: str, again: list[str], how: str
):
    path, heard = output / damaged, Heard()
    if how == "cut":
        path.write_bytes(path.read_bytes()[:-7])
    else:
        path.unlink()

    run(output, texts, heard=heard, resume=True)

    assert heard.done == again
    assert path.is_file()
    if not damaged.endswith((".svg", ".json")):
        assert path.read_bytes() == (made[0] / damaged).read_bytes()


@pytest.mark.parametrize(
    ("changes", "again"),
    [
        ({"training": {"seed": 7}}, ALL),
        ({"tokenizer": {"vocab_size": 420}}, ALL[1:]),
        ({"training": {"epochs": 1}}, ALL[3:]),
        ({"samples": {"sample_prompts": ["She"]}}, ["samples", "report"]),
        ({"training": {"log_every_steps": 7}}, ["report"]),
    ],
    ids=["seed", "vocab_size", "epochs", "prompts", "log_every_steps"],
)
def test_a_changed_setting_does_again_what_it_decides(output: Path, texts: Path, changes: Any, again: list[str]):
    heard = Heard()
    shutil.rmtree(output / "checkpoints")  # begun again, not gone on with

    run(output, texts, heard=heard, **changes)

    assert heard.done == again


def test_a_report_is_made_of_an_older_history_that_does_not_tell_the_device(output: Path, texts: Path):
    path, record, heard = output / "training_history.json", output / "stages" / "training.json", Heard()
    history, sealing = json.loads(path.read_text()), json.loads(record.read_text())
    device = history.pop("device")
    path.write_text(json.dumps(history))
    record.write_text(json.dumps({**sealing, "files": {**sealing["files"], path.name: sealed.sha256_of(path)}}))

    run(output, texts, heard=heard)

    assert heard.done == ["report"]
    assert json.loads((output / "training_config.json").read_text())["device"] == device


def test_changed_text_and_changed_code_do_everything_again_that_comes_of_them(
    output: Path, texts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    more = Path(shutil.copytree(texts, tmp_path / "more"))
    with (more / "en.txt").open("a") as file:
        file.write("One more paragraph.\n")
    by_text, by_code = Heard(), Heard()

    run(output, more, heard=by_text)
    code_of = stages.code_of
    from trainer_node.engines.tinylm import text_stages

    monkeypatch.setattr(text_stages, "code_of", lambda *modules: code_of(*modules) + "newer")
    run(output, more, heard=by_code)

    assert by_text.done == ALL
    assert by_text.again["corpus"] == "texts changed"
    assert by_code.done == ["corpus", "tokenizer", "tokens"]  # and came out the same
    assert by_code.again["corpus"] == "code changed"


def test_a_training_that_is_gone_on_with_keeps_its_text_and_says_what_differs(output: Path, texts: Path):
    before = {path: path.read_bytes() for path in output.rglob("*") if path.is_file()}

    with pytest.raises(stages.ChangedSince) as refused:
        run(output, texts, resume=True, tokenizer={"vocab_size": 420})

    assert refused.value.message == (
        "the tokenizer that lies there was made otherwise: vocab_size changed since; go on with what it was, or give "
        "--restart or --new-version"
    )
    assert {path: path.read_bytes() for path in output.rglob("*") if path.is_file()} == before


def test_a_finished_training_without_a_checkpoint_is_not_begun_again_by_resuming_it(output: Path, texts: Path):
    shutil.rmtree(output / "checkpoints")
    models = {name: (output / name).read_bytes() for name in MODELS}

    unchanged = Heard()
    run(output, texts, heard=unchanged, resume=True)
    with pytest.raises(stages.ChangedSince, match="the training that lies there was made otherwise: settings changed"):
        run(output, texts, resume=True, training={"epochs": 3})

    assert unchanged.done == []
    assert {name: (output / name).read_bytes() for name in MODELS} == models


def test_a_training_goes_on_without_the_text_that_its_corpus_was_made_of(
    output: Path, texts: Path, made: tuple[Path, Heard, Any], tmp_path: Path
):
    for name in (*MODELS, "stages/training.json"):
        (output / name).unlink()
    shutil.rmtree(checkpoints.checkpoints(output / "checkpoints")[-1])
    heard = Heard()

    run(output, tmp_path / "moved", heard=heard, resume=True)

    assert heard.done == ["training", "report"]
    assert "the text is not where it was; the training goes on with what was made of it" in heard.said
    assert all((output / name).read_bytes() == (made[0] / name).read_bytes() for name in MODELS)


def test_samples_that_were_interrupted_are_in_the_report_after_all(tmp_path: Path, texts: Path):
    heard = Heard()

    stopped = run(tmp_path, texts, heard=heard, stop=lambda: len(heard.samples) == 1)
    run(tmp_path, texts, resume=True)

    assert isinstance(stopped, job_event_pb2.JobCancelled)
    page = (tmp_path / "report.md").read_text()
    assert "## Samples after epoch 1\n" in page and "## Samples after epoch 2\n" in page


def test_a_training_whose_text_and_corpus_are_gone_says_what_to_give(output: Path, tmp_path: Path):
    (output / "corpus" / "train" / "en.txt").unlink()

    with pytest.raises(CorpusInvalid) as refused:
        run(output, tmp_path / "moved", resume=True)

    assert refused.value.message == (
        f"there is no {tmp_path / 'moved'}, and what was made of it in {output / 'corpus'} is not whole; give the same "
        "text with --corpus-path"
    )


def unreachable(*_: object, **__: object) -> list[Path]:
    raise SourcesUnavailable("Treasure Island could not be downloaded (no network)", work="Treasure Island")


def test_without_a_network_the_synthetic_corpus_is_taken_and_said_loudly(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(sources, "fetch", unreachable)
    heard = Heard()

    run(tmp_path, None, heard=heard, may_fall_back=True)

    assert "Treasure Island could not be downloaded, so this corpus is SYNTHETIC" in heard.loud[0]
    for page in ("report.md", "README.md"):
        assert "**This corpus is SYNTHETIC: " in (tmp_path / page).read_text()
    assert artefacts.read(tmp_path / "best_model.pt")["config"]["about"]["synthetic"] is True


def test_a_stop_while_works_are_downloaded_is_no_reason_to_take_other_text(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    asked, heard = Event(), Heard()
    monkeypatch.setattr(sources, "fetch", lambda *_, **__: asked.set() or unreachable())

    outcome = run(tmp_path, None, heard=heard, may_fall_back=True, stop=asked.is_set)

    assert outcome == job_event_pb2.JobCancelled()
    assert heard.loud == []


def test_a_training_that_began_on_synthetic_text_goes_on_with_it_when_the_network_is_back(
    tmp_path: Path, texts: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(sources, "fetch", unreachable)
    run(tmp_path, None, may_fall_back=True)
    monkeypatch.setattr(sources, "fetch", lambda *_, **__: sorted(texts.glob("*.txt")))
    gone_on, anew = Heard(), Heard()

    run(tmp_path, None, heard=gone_on, may_fall_back=True, resume=True)
    run(tmp_path, None, heard=anew, may_fall_back=True)

    assert gone_on.done == []
    assert anew.done[0] == "corpus"


def test_a_download_that_was_asked_for_is_not_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(sources, "fetch", unreachable)

    with pytest.raises(SourcesUnavailable):
        run(tmp_path, None)

    assert not (tmp_path / "corpus").exists()


def test_nothing_held_out_leaves_the_last_model_as_the_best(tmp_path: Path, texts: Path):
    run(tmp_path, texts, validation={"validation_fraction": 0}, training={"epochs": 1})

    best, final = (artefacts.read(tmp_path / name)["weights"] for name in MODELS)
    assert all(torch.equal(best[name], final[name]) for name in final)
    assert "nothing was held out" in (tmp_path / "report.md").read_text()
