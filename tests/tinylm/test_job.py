"""A language model as a job: what a node hears of it, how it stops, and how it goes on elsewhere."""

from __future__ import annotations

import errno
import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event
from typing import Any

import pytest

from tests.tinylm.pipelines import spec, text
from trainer_node.checkpoints import checkpoints, latest, step_of
from trainer_node.engines import tensor_files
from trainer_node.engines.tinylm import corpus, pipeline, sources
from trainer_node.engines.tinylm.errors import CorpusInvalid, SourcesUnavailable
from trainer_node.engines.tinylm.tokenizer import Tokenizer
from trainer_node.errors import DiskFull
from trainer_node.foreground import CallbackTelemetry, OutputFiles
from trainer_node.training import Outcome, TrainingJob
from tunesmith.v1 import job_event_pb2, trainer_pb2

MODELS = ("best_model.pt", "final_model.pt", "tokenizer/tokenizer.model")
OF_THE_CLOCK = {"tokens_per_s", "seconds", "epoch_s"}


@pytest.fixture(scope="module")
def texts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small corpus; never changed."""
    return text(tmp_path_factory.mktemp("texts") / "corpus")


@dataclass
class Node:
    """A machine that trains into a folder of its own, and what was heard of it."""

    folder: Path
    threads: int = 1
    events: list[job_event_pb2.JobEvent] = field(default_factory=list)

    @property
    def output(self) -> Path:
        """What was made."""
        return self.folder / "output"

    def train(
        self,
        corpus: Path | None,
        *,
        resume_dir: Path | None = None,
        stop: Callable[[], bool] = lambda: False,
        attempt: int = 1,
        **changes: Any,
    ) -> Outcome:
        """A job of the settings of `pipelines`, changed."""
        job = TrainingJob(
            job=trainer_pb2.Job(run_id="run_1", attempt=attempt, spec=spec(**changes)),
            corpus_paths=[corpus] if corpus else [],
            models_dir=self.folder,
            cache_dir=self.folder / "cache",
            output_dir=self.output,
            resume_dir=resume_dir,
            threads=self.threads,
        )
        return pipeline.train(job, CallbackTelemetry(self.events.append), OutputFiles(), stop)

    def of(self, kind: str) -> list[Any]:
        """The events of a kind, such as `started`."""
        return [getattr(event, kind) for event in self.events if event.HasField(kind)]

    def metrics(self) -> dict[tuple[str, int], float]:
        """Every value by its name and step, those of the clock aside."""
        return {
            (name, batch.steps[0]): value
            for batch in self.of("metrics")
            for name, value in zip(batch.names, batch.values, strict=True)
            if name not in OF_THE_CLOCK
        }

    def history(self) -> list[dict[str, Any]]:
        """The rows of the epochs, what the clock says aside."""
        rows = json.loads((self.output / "training_history.json").read_text())["epochs"]
        return [{name: value for name, value in row.items() if name not in OF_THE_CLOCK} for row in rows]


def test_a_job_tells_what_every_training_tells_and_leaves_a_model(
    texts: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    node = Node(tmp_path)

    outcome = node.train(texts, attempt=3, training={"epochs": 1})

    assert isinstance(outcome, job_event_pb2.JobSucceeded)
    assert {"best_model.pt", "tokenizer/tokenizer.json", "README.md"} <= {file.path for file in outcome.model_files}
    assert not outcome.adapter_files
    assert "the report of the run `run_1`, [training_history.json]" in (node.output / "README.md").read_text()
    kinds = dict.fromkeys(event.WhichOneof("event") for event in node.events)
    assert list(kinds) == ["started", "metrics", "checkpoint_saved", "preview_saved"]
    config = json.loads((node.output / "training_config.json").read_text())
    assert node.of("started")[0].device == config["device"] == "cpu fp32"
    assert config["attempt"] == 3
    assert {"torch", "sentencepiece"} <= set(config["packages"]) and "peft" not in config["packages"]
    assert "stage 8/8 report done in" in capsys.readouterr().out


def test_texts_are_told_while_it_trains_and_at_the_end_the_best_models(texts: Path, tmp_path: Path) -> None:
    node = Node(tmp_path)

    node.train(texts, samples={"sample_every_epochs": 1}, training={"seed": 9})

    told = [(one.step, one.prompt_index, one.prompt, one.seed) for one in node.of("preview_saved")]
    last = node.of("started")[0].total_steps
    expected = [(step, place, prompt, 9) for step in (last // 2, last) for place, prompt in enumerate(("The", "El"))]
    assert told == [*expected, *expected[2:]], "those of the best model come last"
    assert all(one.text.startswith(one.prompt) for one in node.of("preview_saved"))
    assert not any(one.HasField("file") or one.duration_s for one in node.of("preview_saved"))


def test_a_node_with_many_threads_takes_the_shards_of_others(texts: Path, tmp_path: Path) -> None:
    node = Node(tmp_path, threads=64)

    node.train(texts, training={"epochs": 1})

    assert json.loads((node.output / "training_history.json").read_text())["arithmetic"] == "fp32, 4 threads"


def test_another_node_goes_on_with_the_checkpoint_alone_and_comes_to_the_same_bits(texts: Path, tmp_path: Path) -> None:
    settings: dict[str, Any] = {"training": {"log_every_steps": 3}, "checkpoints": {"checkpoint_every_steps": 10}}
    whole, lost, other = Node(tmp_path / "whole"), Node(tmp_path / "lost"), Node(tmp_path / "other", threads=2)
    whole.train(texts, **settings)
    lost.train(texts, stop=lambda: len(checkpoints(lost.output / "checkpoints")) > 2, **settings)
    kept = latest(lost.output / "checkpoints")
    assert kept is not None
    checkpoint = Path(shutil.copytree(kept, tmp_path / "other" / "resume"))
    same_text = Path(shutil.copytree(texts, tmp_path / "elsewhere" / "corpus"))

    outcome = other.train(same_text, resume_dir=checkpoint, attempt=2, **settings)

    assert isinstance(outcome, job_event_pb2.JobSucceeded)
    assert other.of("started")[0].resumed_step == step_of(kept)
    for name in MODELS:
        assert (other.output / name).read_bytes() == (whole.output / name).read_bytes()
    assert other.history() == whole.history()
    assert {**lost.metrics(), **other.metrics()} == whole.metrics()


@pytest.mark.parametrize(
    ("stage", "kept"), [("tokenizer", False), ("validation", True), ("samples", True)], ids=lambda value: str(value)
)
def test_a_stop_in_any_stage_is_told_with_the_checkpoint_that_is_kept(
    texts: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], stage: str, kept: bool
) -> None:
    node, said = Node(tmp_path), []

    def stop() -> bool:
        said.append(capsys.readouterr().out)
        return f" {stage}\n" in "".join(said)

    outcome = node.train(texts, stop=stop)

    assert isinstance(outcome, job_event_pb2.JobCancelled)
    assert outcome.checkpoint_step == (node.of("started")[0].total_steps if kept else 0)
    assert not (node.output / "stages" / f"{stage}.json").exists()


def slow(function: Callable[..., Any]) -> Callable[..., Any]:
    """The same, for a corpus so large that it takes an hour."""

    def waits(*args: Any, **kwargs: Any) -> Any:
        Event().wait(3600)
        return function(*args, **kwargs)

    return waits


@pytest.mark.parametrize(
    ("stage", "owner", "name"), [("corpus", corpus, "prepare"), ("tokens", Tokenizer, "encode_corpus")]
)
def test_a_stop_is_heard_while_a_large_text_is_worked_on(
    texts: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    stage: str,
    owner: object,
    name: str,
) -> None:
    node, said = Node(tmp_path), []
    monkeypatch.setattr(owner, name, slow(getattr(owner, name)))

    def stop() -> bool:
        said.append(capsys.readouterr().out)
        return f" {stage}\n" in "".join(said)

    outcome = node.train(texts, stop=stop)

    assert outcome == job_event_pb2.JobCancelled()
    assert not (node.output / "stages" / f"{stage}.json").exists()


@pytest.mark.parametrize("mirror", ["silent", "broken"])
def test_a_stop_is_heard_while_a_mirror_says_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, mirror: str
) -> None:
    node, asked, ended = Node(tmp_path), Event(), Event()

    def fetch(*_: Any, **__: Any) -> list[Path]:
        asked.set()
        ended.wait(3600 if mirror == "silent" else 0)
        raise SourcesUnavailable("Treasure Island could not be downloaded (no answer)", work="Treasure Island")

    monkeypatch.setattr(sources, "fetch", fetch)

    outcome = node.train(None, stop=asked.is_set)
    ended.set()

    assert outcome == job_event_pb2.JobCancelled()
    assert "SYNTHETIC" not in capsys.readouterr().out


def test_a_text_is_named_as_its_owner_named_it(tmp_path: Path) -> None:
    folder = tmp_path / "corpus"
    (folder / "es").mkdir(parents=True)
    (folder / "es" / "quijote.txt").write_text("   \n")

    with pytest.raises(CorpusInvalid) as refused:
        Node(tmp_path).train(folder)

    assert refused.value.message.startswith("es/quijote.txt holds nothing but white space")


def test_a_disk_that_fills_up_says_what_to_free_and_where_a_run_goes_on(
    texts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    node, write = Node(tmp_path), tensor_files.write

    def full(path: Path, tensors: Any) -> None:
        if len(checkpoints(node.output / "checkpoints")) > 0:
            raise OSError(errno.ENOSPC, "No space left on device", str(path))
        write(path, tensors)

    monkeypatch.setattr(tensor_files, "write", full)
    with pytest.raises(DiskFull) as failed:
        node.train(texts)

    (whole,) = checkpoints(node.output / "checkpoints")
    assert failed.value.message == (
        f"there is no room left on the disk of {node.output}; free at least 1 MB there, then resume the run: the "
        f"checkpoint of step {step_of(whole)} is whole"
    )
