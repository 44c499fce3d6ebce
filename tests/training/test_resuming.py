"""An interrupted and resumed training is the uninterrupted one, to the last bit."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from structlog.testing import capture_logs

from tests.training import preference_studio
from tests.training.studio import OVERFITTING, Studio, Telemetry, Training, metric_rows
from trainer_node import checkpoints
from trainer_node.engines.musicgen.course import Progress
from trainer_node.errors import CheckpointCorrupt, DataInvalid
from tunesmith.errors import InvalidField
from tunesmith.v1 import job_event_pb2

# 10 clips trained on and 2 held out; 5 batches, so 3 steps an epoch, the last of a single batch; 12 steps. Prompts and
# LoRA inputs are dropped out, so that both random streams count. Lengths differ, so that a wrong order would show.
LENGTHS = [0.3, 0.5, 0.4, 0.6, 0.5, 0.3, 0.7, 0.4, 0.5, 0.6, 0.3, 0.5]
STEPS = 12


def settings(log_every_steps: int = 1) -> dict[str, Any]:
    return {
        "adapter": {"lora_dropout": 0.1},
        "training": {
            "epochs": 4,
            "batch_size": 2,
            "gradient_accumulation_steps": 2,
            "log_every_steps": log_every_steps,
        },
        "validation": {"validation_fraction": 0.15},
        "prompt_dropout": 0.4,
    }


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory, models_dir: Path, cache_dir: Path) -> dict[int, Training]:
    """The same training with a metric row every step and every other step."""
    studio = Studio(tmp_path_factory.mktemp("uninterrupted"), models_dir, cache_dir)
    samples = studio.samples(12, length_s=LENGTHS)
    return {every: studio.train(samples, **settings(every)) for every in (1, 2)}


def stop_after_row(step: int) -> Callable[[Telemetry], bool]:
    """Asked to stop once the row of `step` is out."""

    def stop(telemetry: Telemetry) -> bool:
        return telemetry.last_step() >= step

    return stop


def disturb_every_generator() -> None:
    random.seed(99)
    np.random.seed(99)
    torch.manual_seed(99)


@pytest.mark.parametrize(
    ("log_every_steps", "row", "cut"),
    [
        pytest.param(1, 4, 5, id="in the middle of an epoch"),
        pytest.param(2, 4, 5, id="between two metric rows"),
        pytest.param(1, 5, 6, id="at the end of an epoch, before its evaluation"),
        pytest.param(1, 6, 6, id="during an evaluation"),
        pytest.param(1, 11, 12, id="at the last step"),
    ],
)
def test_a_resumed_training_is_bit_identical_to_an_uninterrupted_one(
    studio: Studio, uninterrupted: dict[int, Training], log_every_steps: int, row: int, cut: int
) -> None:
    samples = studio.samples(12, length_s=LENGTHS)
    whole = uninterrupted[log_every_steps]
    disturb_every_generator()

    first = studio.train(samples, stop=stop_after_row(row), **settings(log_every_steps))
    disturb_every_generator()
    second = studio.resume(first, samples, **settings(log_every_steps))

    assert first.outcome == job_event_pb2.JobCancelled(checkpoint_step=cut)
    assert second.telemetry.events[0].started.resumed_step == cut
    assert first.rows() + second.rows() == whole.rows()  # losses, learning rates, gradient norms, validation losses
    assert whole.telemetry.last_step() == STEPS
    assert second.adapter() == whole.adapter()


def test_a_torn_checkpoint_is_skipped_and_the_one_before_gives_the_same_result(studio: Studio) -> None:
    samples = studio.samples(12, length_s=LENGTHS)
    whole = studio.train(samples, **settings())
    folder = whole.output_dir / "checkpoints"
    with (folder / "step-00000012" / "optimizer.safetensors").open("r+b") as file:
        file.truncate(1000)
    (folder / "step-00000015").mkdir()  # a crash right after a rename whose files never reached the disk

    with capture_logs() as logs:
        newest = checkpoints.latest(folder)
    resumed = studio.train(samples, resume_dir=newest, output_dir=whole.output_dir, **settings())

    assert newest == folder / "step-00000009"
    assert [line["checkpoint"] for line in logs] == ["step-00000015", "step-00000012"]
    assert "optimizer.safetensors has other bytes" in logs[1]["why"]
    assert resumed.adapter() == whole.adapter()
    assert [path.name for path in checkpoints.checkpoints(folder)][-1] == "step-00000012"


def test_a_resumed_training_reports_the_whole_curve_and_the_whole_time(studio: Studio) -> None:
    samples = studio.samples(12, length_s=LENGTHS)
    first = studio.train(samples, stop=stop_after_row(7), **settings())

    second = studio.resume(first, samples, **settings())

    report = second.report()
    assert list(report.training_loss.steps) == list(range(1, STEPS + 1))
    assert list(report.validation_loss.steps) == [3, 6, 9, 12]
    assert report.training_time_s > Progress.read(first.newest_checkpoint()).training_time_s > 0


def test_patience_and_the_best_adapter_survive_a_move_to_another_machine(studio: Studio) -> None:
    samples = studio.noises(5)
    whole = studio.train(samples, **OVERFITTING)
    evaluations = whole.metric("eval_loss")
    best_epoch = evaluations.index(min(evaluations)) + 1
    assert 1 < best_epoch == len(evaluations) - 2  # cut below after the best epoch, and never better again

    first = studio.train(samples, stop=stop_after_row(best_epoch + 1), **OVERFITTING)
    second = studio.resume(first, samples, **OVERFITTING)

    assert first.rows() + second.rows() == whole.rows()
    assert second.adapter() == whole.adapter()
    assert second.report().best_step == best_epoch


PATIENCE_1 = {
    **OVERFITTING,
    "training": {"epochs": 5, "learning_rate": 0.9},  # the second validation loss is worse than the first
    "validation": {"validation_fraction": 0.3, "early_stopping_patience_epochs": 1},
    "checkpoints": {"checkpoint_every_steps": 1},
}


@pytest.mark.parametrize("evaluations", [pytest.param(1, id="before"), pytest.param(2, id="after")])
def test_a_training_interrupted_around_its_last_evaluation_still_stops_early(studio: Studio, evaluations: int) -> None:
    samples = studio.noises(5)
    previews = {"preview_prompts": ["low sine drone"], "preview_s": 0.1, "preview_every_epochs": 1}
    whole = studio.train(samples, **PATIENCE_1, previews=previews)
    step = whole.report().steps
    assert whole.report().stopped_early

    def stop(telemetry: Telemetry) -> bool:
        evaluated = sum("eval_loss" in row for _, row in metric_rows(telemetry.events))
        return evaluated >= evaluations and telemetry.last_step() >= step

    first = studio.train(samples, stop=stop, **PATIENCE_1, previews=previews)
    second = studio.resume(first, samples, **PATIENCE_1, previews=previews)

    assert first.outcome == job_event_pb2.JobCancelled(checkpoint_step=step)
    assert first.rows() + second.rows() == whole.rows()
    assert (second.report().steps, second.report().stopped_early) == (step, True)
    assert second.adapter() == whole.adapter()
    assert [preview.step for preview in second.previews()] == [step]


def test_an_evaluation_that_is_interrupted_twice_is_still_made_up_for(
    studio: Studio, uninterrupted: dict[int, Training]
) -> None:
    samples = studio.samples(12, length_s=LENGTHS)
    first = studio.train(samples, stop=stop_after_row(6), **settings())

    second = studio.resume(first, samples, stop=lambda _: bool(studio.telemetry.events), **settings())
    third = studio.resume(second, samples, **settings())

    assert second.outcome == job_event_pb2.JobCancelled(checkpoint_step=6)
    assert first.rows() + second.rows() + third.rows() == uninterrupted[1].rows()
    assert third.adapter() == uninterrupted[1].adapter()


def test_a_checkpoint_that_is_not_whole_is_refused_by_name(studio: Studio) -> None:
    samples = studio.samples(4)
    done = studio.train(samples, training={"epochs": 1})
    torn = done.newest_checkpoint()
    (torn / "adapter_model.safetensors").unlink()

    with pytest.raises(CheckpointCorrupt, match=r"adapter_model.safetensors is missing.*start a new run"):
        studio.train(samples, resume_dir=torn, training={"epochs": 1})


def test_a_checkpoint_goes_on_only_with_its_own_settings_and_data(studio: Studio) -> None:
    samples = studio.samples(5)
    done = studio.train(samples, training={"epochs": 1})
    folder = done.newest_checkpoint()

    with pytest.raises(InvalidField, match=r"training.learning_rate: .*0.005") as refused:
        studio.train(samples, resume_dir=folder, training={"epochs": 1, "learning_rate": 0.001})
    with pytest.raises(DataInvalid, match="another data set"):
        studio.train(samples[:4], resume_dir=folder, training={"epochs": 1})

    assert [field.path for field in refused.value.fields] == ["training.learning_rate"]


@pytest.mark.parametrize(
    ("kind", "changes", "path", "problem"),
    [
        ("ranking", {"margin": 0.5}, "margin", "was trained with 0.1; resume with that"),
        ("ranking", {"loss": "RANKING_LOSS_PLACKETT_LUCE"}, "loss", "was trained with RANKING_LOSS_MARGIN; resume"),
        ("ranking", {"relative_to_reference": False}, "relative_to_reference", "was trained with true; resume"),
        ("ranking", {"adapter": {"start_adapter_id": "adp_" + 26 * "0"}}, "adapter.start_adapter_id", "without it"),
        ("dpo", {}, "kind", "the checkpoint is of a ranking training; resume it as such, or start a new run"),
    ],
)
def test_what_a_checkpoint_was_trained_with_otherwise_is_named(
    studio: Studio, kind: str, changes: dict[str, Any], path: str, problem: str
) -> None:
    compared = preference_studio.comparisons(studio, 3)
    training = {"epochs": 1}
    done = preference_studio.train(studio, "ranking", compared, training=training)
    folder = done.newest_checkpoint()

    with pytest.raises(InvalidField) as refused:
        preference_studio.train(studio, kind, compared, resume_dir=folder, training=training, **changes)

    problems = {field.path: field.what for field in refused.value.fields}
    assert problem in problems[path]


def test_a_fresh_training_does_not_mix_its_checkpoints_with_an_old_ones(studio: Studio) -> None:
    samples = studio.samples(4)
    done = studio.train(samples, training={"epochs": 1})

    with pytest.raises(InvalidField, match="resume that one, or choose another folder"):
        studio.train(samples, output_dir=done.output_dir, training={"epochs": 1})
