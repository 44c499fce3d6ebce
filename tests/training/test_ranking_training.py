"""Trainings by ranking: what they log and leave, that they resume to the last bit, and that they learn."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from peft import PeftModel
from transformers import MusicgenForConditionalGeneration

from tests.training import preference_studio
from tests.training.preference_studio import cancelled_at, low_to_high, spec, stop_after_row
from tests.training.studio import Studio, Training
from trainer_node import preflight
from trainer_node.engines.musicgen import examples, family
from trainer_node.engines.musicgen.features import Features
from trainer_node.engines.musicgen.ranking import METRICS, Ranking
from trainer_node.training import TrainingComparison

LENGTHS = [0.2, 0.3, 0.16, 0.24, 0.12]
LOSSES = ["RANKING_LOSS_MARGIN", "RANKING_LOSS_PLACKETT_LUCE"]


def train(studio: Studio, compared: list[TrainingComparison], **changes: Any) -> Training:
    return preference_studio.train(studio, "ranking", compared, **changes)


def uneven_lists(studio: Studio) -> list[TrainingComparison]:
    """Six lists of three clips and a pair, of clips of different lengths."""
    lists = preference_studio.comparisons(studio, 6, size=3, length_s=LENGTHS)
    return [*lists, *preference_studio.comparisons(studio, 7, size=2, length_s=LENGTHS)[6:]]


@pytest.mark.parametrize("base_model", ["tiny", "tiny-stereo"])
def test_a_training_logs_ranks_and_leaves_an_adapter_for_everybody(studio: Studio, base_model: str) -> None:
    compared = preference_studio.comparisons(studio, 6, size=3, length_s=LENGTHS)
    changes: dict[str, Any] = {"adapter": {"base_model": base_model}, "relative_to_reference": False}
    done = train(studio, compared, **changes)

    plain = MusicgenForConditionalGeneration.from_pretrained(studio.models_dir / base_model)
    model = PeftModel.from_pretrained(plain, done.output_dir / "adapter").eval()
    base = family.load_base(studio.models_dir / base_model, name=base_model)
    ranking = Ranking(spec("ranking", **changes).ranking, channels=base.channels)
    _, held_out = preflight.split_comparisons(compared, fraction=0.2, seed=42)
    encoded = examples.encode(held_out, Features(base, studio.cache_dir, max_clip_s=30), lambda: False)
    with torch.no_grad():
        told = ranking.evaluate(model, ranking.collate(encoded))

    training = [row for _, row in done.rows() if "loss" in row]
    validation = [row for _, row in done.rows() if "loss" not in row]
    assert [list(row) for row in training] == [["loss", "learning_rate", "grad_norm", *METRICS]] * 2
    assert [list(row) for row in validation] == [["eval_loss", *(f"eval_{name}" for name in METRICS)]] * 2
    assert all(math.isfinite(value) for _, row in done.rows() for value in row.values())
    best = min(validation, key=lambda row: row["eval_loss"])  # of this step is the adapter
    assert {f"eval_{name}": float(value.mean()) for name, value in told.items()} == pytest.approx(
        best, rel=1e-5, abs=1e-6
    )
    last = {**training[-1], **validation[-1]}
    assert dict(done.report().final_metrics) == {name: value for name, value in last.items() if "rank/" in name}


@pytest.mark.parametrize("loss", LOSSES)
def test_an_accumulated_batch_equals_the_whole_batch(studio: Studio, loss: str) -> None:
    compared = uneven_lists(studio)
    same: dict[str, Any] = {
        "loss": loss,
        "sft_weight": 0.2,
        "relative_to_reference": False,
        "validation": {"validation_fraction": 0},
    }

    whole = train(studio, compared, training={"batch_size": 7, "epochs": 3}, **same)
    parts = train(studio, compared, training={"batch_size": 2, "gradient_accumulation_steps": 4, "epochs": 3}, **same)

    for (step, one), (also, other) in zip(whole.rows(), parts.rows(), strict=True):
        assert step == also
        assert one == pytest.approx(other, rel=1e-5)


def test_gradient_checkpointing_changes_no_number(studio: Studio) -> None:
    compared = uneven_lists(studio)

    without = train(studio, compared)
    with_it = train(studio, compared, training={"gradient_checkpointing": True})

    for (_, one), (_, other) in zip(without.rows(), with_it.rows(), strict=True):
        assert one == pytest.approx(other, rel=1e-5, abs=1e-7)


def test_the_batch_size_changes_no_validation_number(studio: Studio) -> None:
    compared = preference_studio.comparisons(studio, 9, size=3, length_s=LENGTHS)
    held_out: dict[str, Any] = {"validation": {"validation_fraction": 0.5}, "relative_to_reference": False}

    # One step in both, of all lists: what is left to differ is how the held-out ones are put together.
    at_once = train(studio, compared, training={"batch_size": 8, "epochs": 1}, **held_out)
    by_two = train(
        studio, compared, training={"batch_size": 2, "gradient_accumulation_steps": 4, "epochs": 1}, **held_out
    )

    [(_, one)] = [row for row in at_once.rows() if "eval_loss" in row[1]]
    [(_, other)] = [row for row in by_two.rows() if "eval_loss" in row[1]]
    assert one == pytest.approx(other, rel=1e-5)


RESUMED: dict[str, Any] = {
    "adapter": {"lora_dropout": 0.1},
    "training": {"epochs": 4, "batch_size": 2, "gradient_accumulation_steps": 2},
    "sft_weight": 0.1,
}


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize(("log_every_steps", "row"), [(1, 2), (2, 4), (3, 3)])
def test_a_resumed_training_is_bit_identical_to_an_uninterrupted_one(
    studio: Studio, loss: str, log_every_steps: int, row: int
) -> None:
    compared = uneven_lists(studio)
    settings = {**RESUMED, "loss": loss, "training": {**RESUMED["training"], "log_every_steps": log_every_steps}}
    whole = train(studio, compared, **settings)

    first = train(studio, compared, stop=stop_after_row(row), **settings)
    second = preference_studio.resume(studio, "ranking", first, compared, **settings)

    assert row <= cancelled_at(first) < whole.telemetry.last_step() == 8
    assert first.rows() + second.rows() == whole.rows()
    assert second.adapter() == whole.adapter()


@pytest.mark.parametrize("seed", [1, 2, 3])
@pytest.mark.parametrize("loss", LOSSES)
def test_held_out_lists_come_into_order(studio: Studio, loss: str, seed: int) -> None:
    compared = low_to_high(studio, 12, size=3)
    same: dict[str, Any] = {"loss": loss, "relative_to_reference": False, "validation": {"validation_fraction": 0.25}}

    [before] = train(studio, compared, training={"epochs": 1, "learning_rate": 1e-12, "seed": seed}, **same).metric(
        "eval_rank/kendall_tau"
    )
    done = train(studio, compared, training={"epochs": 6, "learning_rate": 0.005, "seed": seed}, **same)

    after = done.metric("eval_rank/kendall_tau")[-1]
    assert before < 0  # by itself the model finds high tones likelier
    assert after > 0.5
    assert done.metric("eval_rank/pair_accuracy")[-1] == pytest.approx((after + 1) / 2)
    assert done.metric("eval_loss")[-1] < 0.5 * done.metric("eval_loss")[0]


@pytest.mark.parametrize("seed", [1, 2, 3])
@pytest.mark.parametrize(("loss", "undecided"), [(LOSSES[0], 0.1), (LOSSES[1], (math.log(2) + math.log(3)) / 2)])
def test_held_out_lists_move_apart_from_where_training_starts(
    studio: Studio, loss: str, undecided: float, seed: int
) -> None:
    compared = low_to_high(studio, 12, size=3)

    done = train(
        studio,
        compared,
        loss=loss,
        validation={"validation_fraction": 0.25},
        training={"epochs": 2, "learning_rate": 0.003, "seed": seed},
    )

    assert done.metric("loss")[0] == pytest.approx(undecided, rel=1e-4)
    assert done.metric("rank/margin")[0] == pytest.approx(0, abs=1e-5)
    assert done.metric("rank/kendall_tau")[0] == 0
    assert done.metric("eval_loss")[-1] < 0.7 * undecided
    assert done.metric("eval_rank/margin")[-1] > 0.1
    assert done.metric("eval_rank/kendall_tau")[-1] > 0.5
