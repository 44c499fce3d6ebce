"""A training in the foreground from comparisons and from an adapter: what reaches the engine, and what is told."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.unit.dataset_files import folder_with_clips, jsonl
from tests.unit.peft_folders import peft_folder
from trainer_node import __main__, foreground
from trainer_node.data.jsonl import digest_of
from trainer_node.foreground import run_foreground
from trainer_node.training import Blobs, Outcome, StopRequested, Telemetry, TrainingJob
from tunesmith.errors import InvalidField
from tunesmith.v1 import job_event_pb2, job_spec_pb2


class Engine:
    """Takes note of its job, and succeeds."""

    def __init__(self) -> None:
        self.kind = ""
        self.job: TrainingJob | None = None

    def train(self, job: TrainingJob, telemetry: Telemetry, blobs: Blobs, stop: StopRequested) -> Outcome:
        self.job = job
        return job_event_pb2.JobSucceeded()


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch) -> Engine:
    engine = Engine()

    def engine_for(kind: str):
        engine.kind = kind
        return engine.train

    monkeypatch.setattr(foreground, "engine_for", engine_for)
    return engine


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    """Three rated clips of a prompt, two of them close to each other, and a pair."""
    ratings = [
        {"audio": f"audio/{name}.wav", "prompt": "p", "rating": r} for name, r in [("a", 5), ("b", 4.5), ("c", 1)]
    ]
    pair = {"prompt": "q", "chosen": "audio/d.wav", "rejected": "audio/a.wav"}
    return jsonl(folder_with_clips(tmp_path), *ratings, pair)


def train(tmp_path: Path, dataset: Path, settings: dict[str, object], *more: str) -> int:
    """Run the program with a job file of these settings."""
    job = tmp_path / "job.yaml"
    job.write_text(json.dumps(settings))  # which is YAML, too
    output = str(tmp_path / "out")
    return __main__.main([str(job), "--dataset", str(dataset), "--output", output, *more])


def test_dpo_is_given_the_pairs_that_follow_and_its_report_how_they_did(
    tmp_path: Path, dataset: Path, engine: Engine, capsys: pytest.CaptureFixture[str]
):
    code = train(tmp_path, dataset, {"dpo": {"adapter": {"base_model": "tiny"}}}, "--min-rating-gap", "2")

    assert (code, engine.kind) == (0, "dpo")
    assert "3 pairs from 2 prompts, 1 tie skipped" in capsys.readouterr().out
    assert engine.job is not None
    pairs = [(pair.prompt, *(clip.audio_path.stem for clip in pair.clips)) for pair in engine.job.comparisons]
    assert pairs == [("q", "d", "a"), ("p", "a", "c"), ("p", "b", "c")]
    assert engine.job.samples == ()
    assert engine.job.job.derivation.pairs.min_rating_gap == 2
    assert engine.job.job.dataset_digest == digest_of(dataset)


def test_ranking_is_given_lists_and_supervised_the_rated_clips(tmp_path: Path, dataset: Path, engine: Engine):
    train(tmp_path, dataset, {"training_type": "ranking", "adapter": {"base_model": "tiny"}})
    ranking = engine.job
    train(tmp_path, dataset, {"supervised": {"adapter": {"base_model": "tiny"}}}, "--min-rating", "4")
    supervised = engine.job

    assert ranking is not None and supervised is not None
    lists = [[(clip.audio_path.stem, clip.rank) for clip in ranked.clips] for ranked in ranking.comparisons]
    assert lists == [[("d", 1), ("a", 2)], [("a", 1), ("b", 1), ("c", 2)]]
    assert [sample.audio_path.stem for sample in supervised.samples] == ["a", "b"]
    assert not supervised.comparisons
    assert not supervised.job.HasField("derivation")


def test_an_adapter_to_start_from_fixes_its_settings_and_is_the_last_of_the_lineage(
    tmp_path: Path, dataset: Path, engine: Engine
):
    folder = peft_folder(tmp_path / "warm-up" / "adapter", base_model_name_or_path="tiny")

    code = train(tmp_path, dataset, {"dpo": {}}, "--start-adapter", str(folder))

    assert code == 0
    assert engine.job is not None
    assert engine.job.start_adapter_dir == folder
    assert (engine.job.job.spec.dpo.adapter.base_model, engine.job.job.spec.dpo.adapter.lora_r) == ("tiny", 8)
    assert engine.job.job.spec.dpo.adapter.start_adapter_id == ""
    assert [origin.name for origin in engine.job.job.start_adapter.lineage] == ["warm-up"]


@pytest.mark.parametrize(
    ("settings", "options", "says"),
    [
        ({"dpo": {}}, [], "spec.dpo.adapter.base_model: missing; give a Hugging Face id"),
        ({"dpo": {"beta": 0}}, ["--base-model", "tiny"], "spec.dpo.beta"),
        ({"dpo": {}}, ["--base-model", "tiny", "--min-rating", "3"], "leave min_rating out"),
        ({"dpo": {}}, ["--base-model", "tiny", "--min-rating-gap", "9"], "pairs.min_rating_gap"),
        ({"dpo": {}}, ["--base-model", "tiny", "--start-adapter", "none"], "none is no adapter to start from"),
        (
            {"dpo": {"adapter": {"start_adapter_id": "adp_" + "0" * 26}}},
            ["--base-model", "tiny"],
            "only a control plane",
        ),
    ],
)
def test_what_is_wrong_is_told_before_anything_is_trained(
    tmp_path: Path, dataset: Path, engine: Engine, capsys: pytest.CaptureFixture[str],
    settings: dict[str, object], options: list[str], says: str,
):  # fmt: skip
    code = train(tmp_path, dataset, settings, *options)

    assert code == 2
    assert says in capsys.readouterr().err
    assert engine.job is None


def test_a_training_without_any_data_fails_with_what_to_give(tmp_path: Path, engine: Engine):
    spec = job_spec_pb2.JobSpec(dpo={"adapter": {"base_model": "tiny"}})

    end = run_foreground(spec, models_dir=tmp_path, output_dir=tmp_path / "out", on_event=lambda event: None)

    assert end.failed.reason == "DATA_INVALID"
    assert "give at least one clip, or a comparison of two" in end.failed.message


def test_the_adapter_of_a_control_plane_is_not_looked_for(tmp_path: Path, engine: Engine):
    spec = job_spec_pb2.JobSpec(ranking={"adapter": {"base_model": "tiny", "start_adapter_id": "adp_" + "0" * 26}})

    with pytest.raises(InvalidField, match="pull it, and give its folder to start from"):
        run_foreground(spec, models_dir=tmp_path, output_dir=tmp_path / "out", on_event=lambda event: None)
