"""Training in the foreground from the command line: what an engine is given, and what is told of it."""

from __future__ import annotations

import json
import os
import wave

import pytest

from trainer_node import foreground, peft_folder
from trainer_node.lora_targets import LORA_TARGETS
from trainer_node.training import TrainingJob
from tunesmith.v1 import job_event_pb2, job_spec_pb2


@pytest.fixture
def trained(monkeypatch):
    """The jobs that engines were given; each ends well at once."""
    jobs: list[TrainingJob] = []

    def engine(job, telemetry, _blobs, _stop):
        jobs.append(job)
        count = len(job.samples) + len(job.comparisons)
        started = job_event_pb2.JobStarted(training_samples=count, device="cpu fp32", total_steps=1, total_epochs=1)
        telemetry.emit(job_event_pb2.JobEvent(started=started))
        return job_event_pb2.JobSucceeded()

    monkeypatch.setattr(foreground, "engine_for", lambda kind: engine)
    return jobs


@pytest.fixture
def ratings(tmp_path):
    """A file of four clips: three of one prompt, rated 5, 3 and 2.5, and one alone; and a comparison of two."""
    rows: list[dict[str, object]] = []
    for number, (prompt, rating) in enumerate([("a", 5), ("a", 3), ("a", 2.5), ("b", 4)]):
        with wave.open(str(tmp_path / f"{number}.wav"), "wb") as clip:
            clip.setparams((1, 2, 8_000, 0, "NONE", ""))
            clip.writeframes(os.urandom(1_600))
        rows.append({"audio": f"{number}.wav", "prompt": prompt, "rating": rating})
    rows.append({"prompt": "c", "chosen": "0.wav", "rejected": "1.wav"})
    file = tmp_path / "ratings.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return file


@pytest.fixture
def train(cli, ratings, tmp_path):
    """Runs `tunesmith train KIND` on the ratings."""

    def run(kind, *args):
        required = ("--dataset", str(ratings), "--output", str(tmp_path / "out"))
        named = () if "--start-adapter" in args or "--config" in args else ("--base-model", "tiny")
        return cli("train", kind, *required, *named, *args)

    return run


@pytest.fixture
def adapter(tmp_path):
    """A folder with what fixes an adapter's shape, as PEFT writes it."""
    folder = tmp_path / "first" / "adapter"
    folder.mkdir(parents=True)
    targets = LORA_TARGETS[job_spec_pb2.LORA_TARGETS_ATTENTION]
    config = {
        "peft_type": "LORA",
        "base_model_name_or_path": "tiny",
        "r": 4,
        "lora_alpha": 8,
        "target_modules": targets,
    }
    (folder / peft_folder.CONFIG).write_text(json.dumps(config))
    (folder / peft_folder.TENSORS).write_bytes(b"")
    return folder


def test_pairs_are_counted_before_the_training_and_given_to_it_with_their_derivation(train, trained):
    result = train("dpo", "--beta", "0.1")

    (job,) = trained
    assert result.code == 0
    assert "3 pairs from 2 prompts, 1 tie skipped, 1 prompt without an order\n" in result.err
    assert result.err.index("3 pairs from") < result.err.index("3 pairs to train on")
    assert [[clip.rank for clip in pair.clips] for pair in job.comparisons] == [[1, 2]] * 3
    assert (job.job.spec.dpo.beta, job.job.derivation.count, list(job.samples)) == (0.1, 3, [])


def test_ranked_lists_are_given_to_a_ranking(train, trained):
    result = train("ranking", "--min-rating-gap", "0.5")

    (job,) = trained
    assert "2 ranked lists from 2 prompts, 1 prompt without an order\n" in result.err
    assert [[clip.rank for clip in one.clips] for one in job.comparisons] == [[1, 2], [1, 2, 3]]
    assert job.job.spec.WhichOneof("kind") == "ranking"


def test_rated_clips_are_given_to_a_supervised_training(train, trained):
    result = train("supervised", "--min-rating", "3")

    (job,) = trained
    assert "3 clips to train on" in result.err
    assert ([sample.rating for sample in job.samples], list(job.comparisons)) == ([5, 3, 4], [])


def test_a_cap_and_a_list_size_are_settings_of_the_derivation(train, trained, tmp_path):
    train("dpo", "--max-pairs-per-prompt", "1")
    (tmp_path / "out" / "train.log").unlink()
    train("ranking", "--max-list-size", "2", "--min-rating-gap", "0.5")

    assert [job.job.derivation.WhichOneof("settings") for job in trained] == ["pairs", "ranked_lists"]
    assert trained[0].job.derivation.pairs.max_pairs_per_prompt == 1
    assert trained[0].job.derivation.capped_count == 1
    assert trained[1].job.derivation.ranked_lists.max_list_size == 2


@pytest.mark.parametrize(
    ("args", "told"),
    [
        (("dpo", "--min-rating-gap", "4"), "DATA_INVALID"),
        (("dpo", "--min-rating-gap", "9"), "min_rating_gap: "),
        (("dpo", "--beta", "0"), "spec.dpo.beta: "),
        (("dpo", "--min-rating", "4"), "No such option"),
        (("ranking", "--margin", "200"), "spec.ranking.margin: "),
    ],
)
def test_what_cannot_be_trained_is_told_and_not_begun(train, ratings, trained, args, told):
    ratings.write_text("".join(ratings.read_text().splitlines(keepends=True)[:4]))  # without the comparison

    result = train(*args)

    assert (result.code, trained) == (2, [])
    assert told in result.err


def test_an_adapter_to_start_from_decides_base_model_and_shape(train, trained, adapter):
    result = train("dpo", "--start-adapter", str(adapter))

    (job,) = trained
    settings = job.job.spec.dpo.adapter
    assert result.code == 0
    assert (settings.base_model, settings.lora_r, settings.lora_alpha) == ("tiny", 4, 8)
    assert job.start_adapter_dir == adapter
    assert [origin.name for origin in job.job.start_adapter.lineage] == ["first"]


def test_another_shape_than_that_of_the_adapter_to_start_from_is_refused(train, trained, adapter, tmp_path):
    other = train("dpo", "--start-adapter", str(adapter), "--lora-r", "8")
    none = train("dpo", "--start-adapter", str(tmp_path))

    assert (other.code, none.code, trained) == (2, 4, [])
    assert "the adapter was trained with lora_r 4" in other.err
    assert "error[START_ADAPTER_UNSUITABLE]" in none.err


@pytest.mark.parametrize("form", ["{training_type: preference, loss: ipo, adapter: {base_model: tiny}}",
                                  "dpo: {loss: ipo, adapter: {base_model: tiny}}"])  # fmt: skip
def test_a_file_of_settings_may_have_either_form(train, trained, tmp_path, form):
    config = tmp_path / "settings.yaml"
    config.write_text(form)

    train("dpo", "--config", str(config), "--epochs", "2")
    other = train("ranking", "--config", str(config))

    (job,) = trained
    assert (job.job.spec.dpo.loss, job.job.spec.dpo.beta) == (job_spec_pb2.DPO_LOSS_IPO, 10)
    assert job.job.spec.dpo.training.epochs == 2
    assert (other.code, "is for dpo, not for ranking" in other.err) == (2, True)


@pytest.mark.parametrize("package", ["torch", "trl", "datasets"])
def test_a_missing_package_of_the_extra_is_told_before_anything_is_read(train, trained, monkeypatch, package):
    from services.cli import train_extra

    found = train_extra.importlib.util.find_spec
    monkeypatch.setattr(train_extra.importlib.util, "find_spec", lambda name: None if name == package else found(name))

    result = train("dpo")

    assert (result.code, trained) == (9, [])
    assert f"{package} not installed; install them with: pip install 'tunesmith[train]'" in result.err
