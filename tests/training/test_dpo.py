"""Training from preference pairs: what it starts from, what it learns, what it logs, and that it can be taken up."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from peft import PeftModel
from transformers import MusicgenForConditionalGeneration

from tests.training import preference_studio
from tests.training.preference_studio import (
    cancelled_at,
    comparisons,
    low_to_high,
    resume,
    stop_after_row,
    train,
    trained_parts,
)
from tests.training.studio import Studio, Training
from trainer_node import preflight
from trainer_node.engines.musicgen import dpo, family
from trainer_node.engines.musicgen.dpo import METRICS, DpoTrainer
from trainer_node.engines.musicgen.features import Features
from trainer_node.errors import DataInvalid
from trainer_node.training import TrainingComparison

LENGTHS = [0.2, 0.5, 0.3, 0.4, 0.3]


def clips(studio: Studio, compared: list[TrainingComparison]) -> list[family.Clip]:
    """Every clip, chosen and rejected by turns, encoded."""
    base = family.load_base(studio.models_dir / "tiny", name="tiny")
    samples = [preference_studio.sample(one.prompt, clip) for one in compared for clip in one.clips]
    return Features(base, studio.cache_dir, max_clip_s=30).clips(samples, lambda: False)


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_held_out_pairs_come_apart_the_right_way_and_without_training_they_do_not(studio: Studio, seed: int) -> None:
    compared = low_to_high(studio, 32)
    half: dict[str, Any] = {"validation": {"validation_fraction": 0.5}}  # 16 pairs

    untrained = train(studio, "dpo", compared, training={"epochs": 1, "learning_rate": 1e-12, "seed": seed}, **half)
    trained = train(studio, "dpo", compared, training={"epochs": 3, "learning_rate": 0.01, "seed": seed}, **half)

    assert untrained.metric("eval_rewards/margin") == [pytest.approx(0, abs=1e-5)]
    assert untrained.metric("eval_loss") == [pytest.approx(math.log(2), abs=1e-5)]
    assert untrained.metric("eval_rewards/accuracy") < [0.75]  # rounding decides: none is right, or about half of them
    assert trained.metric("eval_rewards/margin")[-1] > 1
    assert trained.metric("eval_loss")[-1] < 0.5 * math.log(2)
    assert trained.metric("eval_rewards/accuracy")[-1] >= 0.9


@pytest.fixture(scope="module")
def supervised(tmp_path_factory: pytest.TempPathFactory, models_dir: Path, cache_dir: Path) -> Training:
    """An adapter to start from."""
    studio = Studio(tmp_path_factory.mktemp("supervised"), models_dir, cache_dir)
    return studio.train(studio.samples(8), training={"epochs": 6, "learning_rate": 0.02})


@pytest.mark.parametrize("loss", ["DPO_LOSS_SIGMOID", "DPO_LOSS_SIGMOID_NORM", "DPO_LOSS_HINGE", "DPO_LOSS_ROBUST"])
def test_a_fresh_adapter_begins_with_no_margin(studio: Studio, loss: str) -> None:
    done = train(studio, "dpo", comparisons(studio, 6, length_s=LENGTHS), loss=loss, training={"epochs": 1})

    assert done.metric("rewards/margin")[0] == pytest.approx(0, abs=1e-4)
    assert done.metric("rewards/chosen")[0] == pytest.approx(0, abs=1e-4)
    assert done.metric("loss")[0] == pytest.approx(1 if loss == "DPO_LOSS_HINGE" else math.log(2), abs=1e-4)


def test_bf16_begins_within_its_rounding_and_learns(studio: Studio) -> None:
    compared = comparisons(studio, 6, length_s=LENGTHS)

    done = train(studio, "dpo", compared, training={"precision": "PRECISION_BF16", "epochs": 4})

    assert done.telemetry.events[0].started.device == "cpu bf16"
    assert done.metric("rewards/margin")[0] == pytest.approx(0, abs=0.02)  # a clip scores a little else in a batch
    assert done.metric("rewards/margin")[-1] > 0.2


def test_an_adapter_to_start_from_is_the_reference(studio: Studio, supervised: Training) -> None:
    compared = comparisons(studio, 6, length_s=LENGTHS)

    fresh = train(studio, "dpo", compared, training={"epochs": 1})
    further = train(
        studio, "dpo", compared, start_adapter_dir=supervised.output_dir / "adapter", training={"epochs": 1}
    )

    assert further.metric("logps/chosen")[0] > fresh.metric("logps/chosen")[0] + 1  # it knows tones already
    assert further.metric("rewards/margin")[0] == pytest.approx(0, abs=1e-4)
    assert further.metric("rewards/rejected")[0] == pytest.approx(0, abs=1e-4)
    assert further.metric("loss")[0] == pytest.approx(math.log(2), abs=1e-4)


def test_dropout_is_noise_between_an_adapter_and_its_reference_in_training_steps_alone(
    studio: Studio, supervised: Training
) -> None:
    compared = comparisons(studio, 6, length_s=LENGTHS)
    still: dict[str, Any] = {"adapter": {"lora_dropout": 0.3}, "training": {"epochs": 1, "learning_rate": 1e-12}}

    fresh = train(studio, "dpo", compared, **still)
    further = train(studio, "dpo", compared, start_adapter_dir=supervised.output_dir / "adapter", **still)

    assert fresh.metric("rewards/margin")[0] == pytest.approx(0, abs=1e-4)
    assert abs(further.metric("rewards/margin")[0]) > 0.01
    assert further.metric("eval_rewards/margin")[-1] == pytest.approx(0, abs=1e-4)


def test_the_reference_is_computed_once_for_each_clip_and_starting_point(
    studio: Studio, supervised: Training, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    compared = comparisons(studio, 5)
    compared.append(replace(compared[0], clips=(compared[0].clips[0], compared[0].clips[1])))
    started = supervised.output_dir / "adapter"

    for start_adapter_dir in (None, None, started, started):
        train(
            studio,
            "dpo",
            compared,
            cache_dir=tmp_path / "cache",
            start_adapter_dir=start_adapter_dir,
            training={"epochs": 1},
        )

    said = [line for line in capsys.readouterr().out.splitlines() if "for reference" in line]
    assert said == [f"scored {computed} of 10 clips for reference" for computed in (10, 0, 10, 0)]


def test_a_step_runs_the_model_once(studio: Studio) -> None:
    parts = trained_parts(studio, comparisons(studio, 4), training={"epochs": 1}, validation={"validation_fraction": 0})
    trainer = DpoTrainer(parts, preference_studio.spec("dpo", sft_weight=0.5).dpo)
    passes = []
    hook = parts.prepared.base.model.decoder.register_forward_hook(lambda *_: passes.append(torch.is_grad_enabled()))

    trainer.compute_loss(parts.model, trainer.method.collate(parts.prepared.training))
    hook.remove()

    assert passes == [True]


@pytest.mark.parametrize("loss", ["DPO_LOSS_SIGMOID", "DPO_LOSS_SIGMOID_NORM"])
@pytest.mark.parametrize("parts", [(2, 2), (1, 4)], ids=["2 x 2", "4 x 1"])
def test_an_accumulated_step_equals_a_whole_one(studio: Studio, loss: str, parts: tuple[int, int]) -> None:
    compared = comparisons(studio, 8, length_s=LENGTHS)
    same: dict[str, Any] = {"loss": loss, "sft_weight": 0.5, "validation": {"validation_fraction": 0.3}}

    whole = train(studio, "dpo", compared, training={"batch_size": 4}, **same)
    batch_size, accumulated = parts
    split = train(
        studio,
        "dpo",
        compared,
        training={"batch_size": batch_size, "gradient_accumulation_steps": accumulated},
        **same,
    )

    assert_same_rows(whole, split, but=("eval",))  # its batches are smaller, too: see below
    assert_close_to(whole.metric("eval_loss"), split.metric("eval_loss"))


def test_an_accumulated_step_with_a_smaller_last_batch_equals_a_whole_one(studio: Studio) -> None:
    compared = comparisons(studio, 5, length_s=LENGTHS)
    same: dict[str, Any] = {"sft_weight": 0.5, "validation": {"validation_fraction": 0}}

    whole = train(studio, "dpo", compared, training={"batch_size": 5, "epochs": 4}, **same)
    split = train(
        studio,
        "dpo",
        compared,
        training={"batch_size": 2, "gradient_accumulation_steps": 3, "epochs": 4},
        **same,
    )

    assert len(whole.rows()) == 4
    assert_same_rows(whole, split)


def test_gradient_checkpointing_changes_no_number(studio: Studio) -> None:
    compared = comparisons(studio, 6)

    without = train(studio, "dpo", compared)
    with_it = train(studio, "dpo", compared, training={"gradient_checkpointing": True})

    assert_same_rows(without, with_it)


def assert_same_rows(one: Training, other: Training, *, but: tuple[str, ...] = ()) -> None:
    """Equal metric rows, within what 32-bit sums in another order come to."""
    for (step, values), (also, others) in zip(one.rows(), other.rows(), strict=True):
        assert step == also
        kept = {name for name in values if not name.startswith(but)} if but else set(values)
        assert kept <= set(others)
        for name in kept - {"rewards/accuracy"}:  # at the start, chance decides it
            assert values[name] == pytest.approx(others[name], rel=1e-4, abs=1e-4), name


def assert_close_to(one: list[float], other: list[float]) -> None:
    assert one == pytest.approx(other, rel=1e-5)


def test_a_training_gives_rows_checkpoints_a_report_and_an_adapter_that_peft_loads(studio: Studio) -> None:
    compared = comparisons(studio, 12, length_s=LENGTHS)

    done = train(studio, "dpo", compared, training={"epochs": 3, "learning_rate": 0.02})

    (_, training), _, (_, evaluation) = done.rows()[:3]
    assert set(training) == {"loss", "learning_rate", "grad_norm", *METRICS}
    assert set(evaluation) == {"eval_loss", *(f"eval_{name}" for name in METRICS)}
    assert done.telemetry.events[0].started.training_samples == 8
    assert [saved.step for saved in done.checkpoints()][-1] == 6
    report = done.report()
    assert (report.steps, list(report.validation_loss.steps)) == (6, [2, 4, 6])
    assert dict(report.final_metrics) == {
        name: done.metric(name)[-1] for name in (*METRICS, *(f"eval_{name}" for name in METRICS))
    }
    best = report.best_step // 2 - 1
    held_out = preflight.split_comparisons(compared, fraction=0.2, seed=42)[1]
    assert margin_by_peft(studio, held_out, done) == pytest.approx(done.metric("eval_rewards/margin")[best], rel=1e-4)


@torch.no_grad()
def margin_by_peft(studio: Studio, held_out: list[TrainingComparison], done: Training) -> float:
    """Mean reward margin, with the adapter as anyone would load it and without."""
    plain = MusicgenForConditionalGeneration.from_pretrained(studio.models_dir / "tiny")
    model = PeftModel.from_pretrained(plain, done.output_dir / "adapter").eval()
    batch = dpo.PairBatch(**family.collate(clips(studio, held_out), channels=1), reference_B=torch.empty(0))
    ratio_B = dpo.score(model, batch).sum(1)
    with model.disable_adapter():
        ratio_B = ratio_B - dpo.score(model, batch).sum(1)
    return 0.02 * float((ratio_B[::2] - ratio_B[1::2]).mean())


def settings(log_every_steps: int = 1) -> dict[str, Any]:
    """3 steps an epoch of 2 batches each, the last of one pair; LoRA inputs are dropped out."""
    return {
        "adapter": {"lora_dropout": 0.1},
        "training": {
            "epochs": 2,
            "batch_size": 2,
            "gradient_accumulation_steps": 2,
            "log_every_steps": log_every_steps,
        },
        "sft_weight": 0.3,
    }


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory, models_dir: Path, cache_dir: Path) -> dict[int, Training]:
    """The same training with a metric row every step and every other step."""
    studio = Studio(tmp_path_factory.mktemp("uninterrupted"), models_dir, cache_dir)
    compared = comparisons(studio, 13, length_s=LENGTHS)
    return {every: train(studio, "dpo", compared, **settings(every)) for every in (1, 2)}


@pytest.mark.parametrize(
    ("log_every_steps", "row", "cut"),
    [
        pytest.param(1, 1, 2, id="in the middle of an epoch"),
        pytest.param(2, 4, 5, id="between two metric rows"),
        pytest.param(1, 2, 3, id="at the end of an epoch, before its evaluation"),
        pytest.param(1, 3, 3, id="during an evaluation"),
    ],
)
def test_a_resumed_training_is_bit_identical_in_losses_and_metrics(
    studio: Studio, uninterrupted: dict[int, Training], log_every_steps: int, row: int, cut: int
) -> None:
    compared = comparisons(studio, 13, length_s=LENGTHS)
    whole = uninterrupted[log_every_steps]
    torch.manual_seed(99)

    first = train(studio, "dpo", compared, stop=stop_after_row(row), **settings(log_every_steps))
    torch.manual_seed(99)
    second = resume(studio, "dpo", first, compared, **settings(log_every_steps))

    assert cancelled_at(first) == cut
    assert first.rows() + second.rows() == whole.rows()
    assert whole.telemetry.last_step("rewards/margin") == 6
    assert second.adapter() == whole.adapter()


def test_a_checkpoint_keeps_the_metrics_of_each_pair_since_the_last_row(studio: Studio) -> None:
    compared = comparisons(studio, 6)

    done = train(
        studio,
        "dpo",
        compared,
        training={"batch_size": 2, "log_every_steps": 3},
        checkpoints={"checkpoint_every_steps": 2},
    )

    folder = done.output_dir / "checkpoints" / "step-00000002"
    kept = json.loads((folder / "metrics.json").read_text(encoding="utf-8"))
    assert {name: len(values) for name, values in kept.items()} == dict.fromkeys(METRICS, 4)


def test_patience_ends_a_training_whose_held_out_pairs_get_worse(studio: Studio) -> None:
    compared = noises(studio, 8)

    done = train(
        studio,
        "dpo",
        compared,
        adapter={"lora_targets": "LORA_TARGETS_WIDE"},
        training={"epochs": 12, "learning_rate": 0.03},
        validation={"validation_fraction": 0.4, "early_stopping_patience_epochs": 2},
    )

    evaluations = done.metric("eval_loss")
    assert done.report().stopped_early
    assert len(evaluations) == evaluations.index(min(evaluations)) + 3 < 12


def noises(studio: Studio, count: int) -> list[TrainingComparison]:
    """Pairs of noise, so that what is learnt from some is of no use for the others."""
    return [
        TrainingComparison(
            prompt=preference_studio.PROMPTS[i % len(preference_studio.PROMPTS)],
            clips=tuple(preference_studio.clip(studio, i, rank, noise=1, length_s=0.2 + 0.1 * rank) for rank in (1, 2)),
        )
        for i in range(count)
    ]


def test_a_pair_whose_clips_have_the_same_codes_is_refused_by_prompt_and_digest(studio: Studio) -> None:
    compared = comparisons(studio, 4)
    chosen, rejected = compared[2].clips
    sound, rate_hz = soundfile.read(chosen.audio_path)
    soundfile.write(rejected.audio_path, np.append(sound, 0.1 * sound), rate_hz)  # the same to begin with

    with pytest.raises(DataInvalid, match="max_clip_s") as refused:
        train(studio, "dpo", compared, training={"max_clip_s": 0.2})

    assert compared[2].prompt in str(refused.value)
    assert chosen.audio_digest[:12] in str(refused.value)
    assert rejected.audio_digest[:12] in str(refused.value)


def test_a_training_without_pairs_is_refused_before_anything_is_loaded(studio: Studio) -> None:
    compared = comparisons(studio, 2, size=3)

    with pytest.raises(DataInvalid, match="no preference pairs"):
        train(studio, "dpo", [])
    with pytest.raises(DataInvalid, match="3 clips where a pair has two"):
        train(studio, "dpo", compared)

    assert not studio.telemetry.events
