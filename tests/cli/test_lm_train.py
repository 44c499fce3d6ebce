"""`tunesmith lm train`: settings and where they come from, folders that hold a training, what is printed."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path

import pytest
import yaml

from tests.cli.conftest import Run
from tests.cli.lm import SMALL, TRAIN
from trainer_node.durable import held
from trainer_node.engines.tinylm import sources
from trainer_node.engines.tinylm.errors import SourcesUnavailable


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_model_is_made_and_plain_lines_tell_how(train: Run, out: Path):
    result = train()

    lines = result.out.splitlines()
    assert result.code == 0
    assert [line.split()[1] for line in lines if "state=done" in line] == [
        "name=preflight", "name=corpus", "name=tokenizer", "name=tokens", "name=training", "name=validation",
        "name=samples", "name=report",
    ]  # fmt: skip
    (epoch,) = [line for line in lines if line.startswith("epoch=1/1 ")]
    for name in ("train_loss", "validation_loss", "learning_rate", "tokens_per_s", "seconds"):
        assert f" {name}=" in epoch
    assert any(line.startswith("sample_epoch=1 prompt=The text=") for line in lines)
    assert lines[-1].startswith(f"model={out}/best_model.pt")
    assert f"next: tunesmith lm sample {out}" in result.err


def test_on_a_terminal_stages_and_epochs_scroll_above_a_bar(monkeypatch: pytest.MonkeyPatch):
    from services.cli.display import LiveDisplay
    from services.cli.lm_display import LiveListener
    from services.cli.output import Output
    from trainer_node.engines.tinylm.progress import EpochSummary
    from trainer_node.engines.tinylm.telling import StageEnd, TextSample
    from tunesmith.v1 import job_event_pb2 as events

    monkeypatch.setattr(sys, "stdout", terminal := Terminal())
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "120")

    with LiveDisplay(Output(color="never"), "language model") as display:
        listener = LiveListener(display)
        listener.planned(["corpus", "training"])
        listener.began("corpus", "")
        listener.doing("downloading Treasure Island (1 of 7): 0.2 MB")
        display._live.refresh()
        listener.ended(StageEnd("corpus", "3 MB", 2.0, unchanged=False))
        listener.began("training", "seed changed")
        listener.event(events.JobEvent(started=events.JobStarted(total_steps=20, total_epochs=2)))
        for step in (5, 10):
            row = events.MetricBatch(names=["loss"], steps=[step], times_us=[step * 1_000_000], values=[5.0])
            listener.event(events.JobEvent(metrics=row))
        listener.epoch(EpochSummary(1, 10, 5.1, 5.2, 2e-4, 40_000, 12.3), 2)
        listener.sampled(TextSample(1, 10, "The", "The end"))
        display._live.refresh()
        listener.event(events.JobEvent(finished=events.JobFinished(succeeded=events.JobSucceeded())))

    drawn = terminal.getvalue()
    for told in ("downloading Treasure Island (1 of 7): 0.2 MB", "✓ 1/2 corpus", "2/2 training", "50%", "ETA 0:10",
                 "epoch 1/2  train 5.1000  validation 5.2000  lr 0.0002  40,000 tokens/s  12.3 s", "“The end”",
                 "SUCCEEDED"):  # fmt: skip
        assert told in drawn, told


def test_jsonl_prints_every_event(train: Run):
    result = train("-o", "jsonl")

    events = result.json_lines
    kinds = dict.fromkeys(key for event in events for key in event if key not in ("seq", "time"))
    assert list(kinds) == ["logs", "started", "metrics", "checkpoint_saved", "preview_saved", "finished"]
    assert [int(event["seq"]) for event in events] == list(range(1, len(events) + 1))
    assert "succeeded" in events[-1]["finished"]
    lines = [line for event in events for line in event.get("logs", {}).get("lines", ())]
    assert any(line.startswith("epoch 1/1  train ") for line in lines)


def test_flags_stand_over_the_environment_over_the_file_over_defaults(
    train: Run, out: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    config = tmp_path / "lm.yaml"
    config.write_text("learning_rate: 0.01\ntraining: {weight_decay: 0.2}\ntiny_lm: {samples: {top_k: 7}}\nseed: 3\n")
    monkeypatch.setenv("TUNESMITH_LM_WEIGHT_DECAY", "0.3")
    monkeypatch.setenv("TUNESMITH_LM_SEED", "4")

    result = train("--config", str(config), "--seed", "5")

    stored = yaml.safe_load((out / "config.yaml").read_text())["tiny_lm"]
    assert result.code == 0
    assert (
        stored["training"] | {"epochs": 1, "weight_decay": 0.3, "seed": 5, "learning_rate": 0.01}
        == (stored["training"])
    )
    assert stored["samples"]["top_k"] == 7
    assert stored["training"]["max_grad_norm"] == 1.0
    assert f"training.learning_rate=0.01 ({config})" in result.err
    assert "training.weight_decay=0.3 (TUNESMITH_LM_WEIGHT_DECAY)" in result.err
    assert "training.seed=5 (--seed)" in result.err
    assert "training.max_grad_norm=1.0 (default)" in (out / "train.log").read_text()


def test_the_stored_settings_train_the_same_model_again(cli: Run, train: Run, out: Path, tmp_path: Path):
    train()

    again = cli("lm", "train", "--config", str(out / "config.yaml"), "--output", str(tmp_path / "again"))

    assert again.code == 0
    assert (tmp_path / "again" / "best_model.pt").read_bytes() == (out / "best_model.pt").read_bytes()


def test_what_is_needed_to_go_on_is_stored_and_what_was_not_used_is_not_reported(
    train: Run, out: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)

    train("--cache-dir", "downloads")

    assert yaml.safe_load((out / "config.yaml").read_text())["cache_dir"] == str(tmp_path / "downloads")
    assert "corpus_source" not in (out / "report.md").read_text()


def test_paths_may_stand_in_the_file_and_are_relative_to_it(cli: Run, texts: Path, tmp_path: Path):
    (tmp_path / "texts").symlink_to(texts)
    config = tmp_path / "lm.yaml"
    config.write_text("corpus_path: texts\noutput: made\nepochs: 1\nthreads: 1\n")

    result = cli("lm", "train", *SMALL, "--config", str(config))

    assert result.code == 0
    assert (tmp_path / "made" / "best_model.pt").is_file()


@pytest.mark.parametrize(
    ("config", "variable", "told"),
    [
        ("lerning_rate: 1", "", "lerning_rate: unknown key; did you mean learning_rate?"),
        ("{training: {vocab_size: 9}}", "", "belongs under tiny_lm.tokenizer"),
        ("{epochs: 0}", "", "spec.tiny_lm.training.epochs: "),
        ("{supervised: {}}", "", "is no language model"),
        ("{threads: none}", "", "threads: must be a whole number from 1 (given: 'none')"),
        ("{}", "TUNESMITH_LM_EPOCH", "TUNESMITH_LM_EPOCH: did you mean TUNESMITH_LM_EPOCHS?"),
        ("{}", "TUNESMITH_LM_EPOCHS", "TUNESMITH_LM_EPOCHS: "),
        ("{}", "TUNESMITH_LM_BYTE_FALLBACK", "must be true or false (given: 'many')"),
    ],
)
def test_a_setting_that_is_wrong_is_named_and_nothing_begins(
    cli: Run, texts: Path, out: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    config: str, variable: str, told: str,
):  # fmt: skip
    (tmp_path / "lm.yaml").write_text(config)
    if variable:
        monkeypatch.setenv(variable, "many")

    result = cli(
        "lm", "train", "--config", str(tmp_path / "lm.yaml"), "--output", str(out), "--corpus-path", str(texts)
    )

    assert (result.code, out.exists()) == (2, False)
    assert told in result.err


def test_a_finished_training_is_not_written_over_without_a_word(train: Run, out: Path):
    train()
    model = (out / "best_model.pt").read_bytes()

    refused = train("--seed", "7")

    assert refused.code == 4
    assert "error[TRAINING_EXISTS]" in refused.err
    for choice in ("--resume", "--restart", "--new-version"):
        assert choice in refused.err
    assert (out / "best_model.pt").read_bytes() == model


def test_resuming_a_finished_training_says_that_it_is_done(train: Run, cli: Run, out: Path):
    train()

    again = cli("lm", "train", "--output", str(out), "--resume")

    assert again.code == 0
    assert again.out.count("state=unchanged") == 7
    assert "state=begun" not in again.out.replace("name=preflight state=begun", "")


@pytest.mark.parametrize("answer", ["resume", "restart", "new-version"])
def test_on_a_terminal_the_three_are_offered(train: Run, out: Path, monkeypatch: pytest.MonkeyPatch, answer: str):
    from services.cli import lm_output

    train()
    asked = []
    monkeypatch.setattr(lm_output, "is_interactive", lambda _: True)
    monkeypatch.setattr(lm_output.click, "prompt", lambda text, **more: asked.append(more["type"].choices) or answer)

    result = train()

    assert result.code == 0
    assert asked == [("resume", "restart", "new-version")]
    assert out.with_name("model-v2").exists() == (answer == "new-version")
    assert ("name=training state=unchanged" in result.out) == (answer == "resume")


def test_a_setting_that_differs_from_what_is_resumed_is_named_and_nothing_changes(train: Run, out: Path):
    train()
    before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file() and path.name != "train.log"}

    result = train("--resume", "--epochs", "4")

    assert result.code == 2
    assert "epochs: the checkpoint was trained with 1; resume with that, or start anew" in result.err
    assert {path: path.read_bytes() for path in before} == before


def test_there_is_nothing_to_resume_in_an_empty_folder(train: Run):
    result = train("--resume")

    assert result.code == 2
    assert "holds nothing to resume; start without --resume" in result.err


def test_two_trainings_do_not_write_into_one_folder(train: Run, out: Path):
    out.mkdir()
    with held(out / ".lock"):
        result = train()

    assert result.code == 4
    assert "error[FOLDER_IN_USE]" in result.err
    assert "wait for its end, or give another --output" in result.err


@pytest.mark.parametrize(
    ("content", "args", "code", "told"),
    [
        (b"", (), 2, "is empty; give a file with text, a paragraph a line"),
        (b"\x7fELF\x00\x00\x01\x02" * 200, (), 2, "DATA_INVALID"),
        (None, (), 2, "there is no "),
        ("\n".join(f"One more paragraph, number {n}." for n in range(99)).encode(), ("--vocab-size", "64000"), 2,
         "set vocab_size to "),
    ],
    ids=["empty", "binary", "missing", "vocabulary"],
)  # fmt: skip
def test_text_that_cannot_be_trained_on_is_told_with_what_to_do(
    cli: Run, out: Path, tmp_path: Path, content: bytes | None, args: tuple[str, ...], code: int, told: str
):
    file = tmp_path / "en.txt"
    if content is not None:
        file.write_bytes(content)

    result = cli(*TRAIN, "--corpus-path", str(file), "--output", str(out), *args)

    assert result.code == code
    assert told in result.err
    assert not (out / "stages" / "tokenizer.json").exists()


def unreachable(*_: object, **__: object) -> list[Path]:
    raise SourcesUnavailable(
        "Treasure Island could not be downloaded (no network); train on text of your own", work="Treasure Island"
    )


def test_with_no_network_the_command_works_and_says_loudly_on_what_it_trained(
    cli: Run, out: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(sources, "fetch", unreachable)

    result = cli(*TRAIN, "--output", str(out), "--epochs", "1", "--batch-size", "256", "--cache-dir", str(tmp_path))

    assert result.code == 0
    assert "!!! Treasure Island could not be downloaded, so this corpus is SYNTHETIC" in result.err
    assert "SYNTHETIC" in (out / "report.md").read_text()
    assert "corpus_source: download" in (out / "config.yaml").read_text().splitlines()[1]


def test_with_no_network_a_download_that_was_asked_for_is_refused(
    cli: Run, out: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(sources, "fetch", unreachable)

    result = cli(*TRAIN, "--output", str(out), "--corpus-source", "download", "--cache-dir", str(tmp_path))

    assert result.code == 7
    assert "error[INPUTS_UNAVAILABLE]: Treasure Island could not be downloaded" in result.err


def test_missing_packages_and_room_are_told_before_anything_begins(
    train: Run, out: Path, monkeypatch: pytest.MonkeyPatch
):
    from services.cli import train_extra
    from trainer_node import preflight

    free = preflight.shutil.disk_usage(out.parent)
    with monkeypatch.context() as patched:
        patched.setattr(preflight.shutil, "disk_usage", lambda _: free._replace(free=1_000_000))
        full = train()
    monkeypatch.setattr(train_extra.importlib.util, "find_spec", lambda _: None)
    bare = train()

    assert (full.code, bare.code) == (9, 9)
    assert "are free; free " in full.err
    assert not (out / "corpus").exists()
    assert "torch, safetensors, sentencepiece not installed" in bare.err


def test_out_of_memory_says_what_to_reduce_and_to_what(train: Run, monkeypatch: pytest.MonkeyPatch):
    import torch

    from trainer_node.engines.tinylm.model import TinyTransformer

    monkeypatch.setattr(TinyTransformer, "hidden", lambda *_, **__: torch.empty(1 << 50, dtype=torch.uint8))

    result = train("-o", "jsonl")

    assert result.code == 7
    assert "reduce batch_size from 16 to 8" in json.loads(result.err.splitlines()[-1])["error"]["message"]
    assert result.json_lines[-1]["finished"]["failed"]["reason"] == "OUT_OF_MEMORY"


def test_out_of_memory_outside_of_a_step_names_a_setting_too():
    from trainer_node.memory_limit import remedy
    from tunesmith import spec
    from tunesmith.v1 import job_spec_pb2

    def of(batch_size: int) -> str:
        training = {"training": {"batch_size": batch_size}}
        return remedy(spec.resolve(spec.parse({"tiny_lm": training}, job_spec_pb2.JobSpec())))

    assert of(32) == "reduce batch_size from 32 to 16"
    assert of(1) == "reduce max_seq_length from 128 to 64"
