"""TRL's losses, as our trainer calls them, against closed formulas written out here in 64 bits."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from tests.training import preference_studio
from tests.training.preference_studio import trained_parts
from tests.training.studio import Studio
from trainer_node.engines.musicgen import dpo
from trainer_node.engines.musicgen.dpo import DpoTrainer
from trainer_node.engines.musicgen.examples import Example
from trainer_node.engines.musicgen.session import Parts

LENGTHS = [0.2, 0.5, 0.3, 0.4, 0.3]


@dataclasses.dataclass(frozen=True)
class Sums:
    """Of each pair: log-probabilities of chosen and rejected, those of the reference, and numbers of codes."""

    chosen: np.ndarray[Any, Any]
    rejected: np.ndarray[Any, Any]
    chosen_before: np.ndarray[Any, Any]
    rejected_before: np.ndarray[Any, Any]
    chosen_codes: np.ndarray[Any, Any]
    rejected_codes: np.ndarray[Any, Any]

    @property
    def distance(self) -> np.ndarray[Any, Any]:
        """Of sums."""
        return (self.chosen - self.chosen_before) - (self.rejected - self.rejected_before)

    @property
    def mean_distance(self) -> np.ndarray[Any, Any]:
        """Of means over codes."""
        chosen = (self.chosen - self.chosen_before) / self.chosen_codes
        return chosen - (self.rejected - self.rejected_before) / self.rejected_codes

    @property
    def sft(self) -> float:
        """Mean negative log-likelihood of a code of the chosen clips."""
        return float(-self.chosen.sum() / self.chosen_codes.sum())


def softplus(x: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """-log sigmoid(-x)."""
    return np.logaddexp(0, x)


def robust(sums: Sums, beta: float, flipped: float) -> np.ndarray[Any, Any]:
    right, wrong = softplus(-beta * sums.distance), softplus(beta * sums.distance)
    return ((1 - flipped) * right - flipped * wrong) / (1 - 2 * flipped)


def conservative(sums: Sums, beta: float, flipped: float) -> np.ndarray[Any, Any]:
    return (1 - flipped) * softplus(-beta * sums.distance) + flipped * softplus(beta * sums.distance)


# Setting, and each pair's loss by it.
VARIANTS: dict[str, tuple[dict[str, Any], Callable[[Sums], np.ndarray[Any, Any]]]] = {
    "sigmoid": ({}, lambda sums: softplus(-0.02 * sums.distance)),
    "sigmoid of another beta": ({"beta": 0.5}, lambda sums: softplus(-0.5 * sums.distance)),
    "sigmoid with label smoothing": ({"label_smoothing": 0.2}, lambda sums: conservative(sums, 0.02, 0.2)),
    "sigmoid_norm": ({"loss": "DPO_LOSS_SIGMOID_NORM"}, lambda sums: softplus(-10 * sums.mean_distance)),
    "ipo": ({"loss": "DPO_LOSS_IPO"}, lambda sums: (sums.mean_distance - 1 / 20) ** 2),
    "hinge": ({"loss": "DPO_LOSS_HINGE"}, lambda sums: np.maximum(0, 1 - 0.02 * sums.distance)),
    "robust": ({"loss": "DPO_LOSS_ROBUST"}, lambda sums: robust(sums, 0.02, 0.1)),
    "robust of a third flipped": (
        {"loss": "DPO_LOSS_ROBUST", "label_smoothing": 0.3, "beta": 0.1},
        lambda sums: robust(sums, 0.1, 0.3),
    ),
}


@pytest.fixture(scope="module", params=["tiny", "tiny-stereo"])
def parts(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, models_dir: Path, cache_dir: Path
) -> Parts:
    """What a trainer is built of, the model moved away from the reference by a few steps."""
    studio = Studio(tmp_path_factory.mktemp("losses"), models_dir, cache_dir)
    compared = preference_studio.comparisons(studio, 4, length_s=LENGTHS)
    return trained_parts(
        studio,
        compared,
        adapter={"base_model": request.param},
        training={"epochs": 4, "learning_rate": 0.02},
        validation={"validation_fraction": 0},
    )


def trainer_of(parts: Parts, **settings: Any) -> DpoTrainer:
    return DpoTrainer(parts, preference_studio.spec("dpo", **settings).dpo)


def row(example: Example, place: int, *, channels: int, start: int) -> tuple[Tensor, Tensor]:
    """Inputs and targets of one clip, delayed and shifted here by the definition of the pattern; -1 for no target."""
    codes = example.clips[place].codes_KT.long()
    books, frames = codes.shape
    steps = frames + books // channels - 1
    targets = torch.full((books, steps), -1)
    for book in range(books):
        for frame in range(frames):
            targets[book, frame + book // channels] = codes[book, frame]
    before = torch.cat([torch.full((books, 1), start), targets[:, :-1]], 1)
    return before.masked_fill(before < 0, start), targets


@torch.no_grad()
def summed(parts: Parts, example: Example, place: int) -> tuple[float, float, int]:
    """Log-probability of one clip under the model and under the model without its adapter, and its number of codes."""
    base = parts.prepared.base
    inputs, targets = row(example, place, channels=base.channels, start=base.model.config.decoder.vocab_size)
    text = example.clips[place].text_LD[None]
    given = {"encoder_outputs": (text,), "attention_mask": torch.ones(text.shape[:2]), "decoder_input_ids": inputs}
    now = parts.model(**given).logits.double().log_softmax(-1)
    with parts.model.disable_adapter():
        before = parts.model(**given).logits.double().log_softmax(-1)
    here = targets >= 0
    picked = [logps[here].gather(1, targets[here][:, None]).sum() for logps in (now, before)]
    return float(picked[0]), float(picked[1]), int(here.sum())


def sums_of(parts: Parts) -> Sums:
    found = np.array([[summed(parts, example, place) for place in (0, 1)] for example in parts.prepared.training])
    return Sums(*found.transpose(2, 1, 0).reshape(6, -1))


@pytest.fixture(scope="module")
def sums(parts: Parts) -> Sums:
    """Of the pairs of `parts`, found by the definitions."""
    found = np.array([[summed(parts, example, place) for place in (0, 1)] for example in parts.prepared.training])
    return Sums(*found.transpose(2, 1, 0).reshape(6, -1))


def test_the_pairs_are_of_different_lengths_and_away_from_the_reference(sums: Sums) -> None:
    assert np.abs(sums.distance).min() > 0.5
    assert np.abs(sums.mean_distance).min() > 0.01
    assert len(set(sums.chosen_codes)) > 1
    assert (sums.chosen_codes != sums.rejected_codes).all()


@pytest.mark.parametrize("sft_weight", [0, 0.7])
@pytest.mark.parametrize("variant", VARIANTS)
def test_every_loss_is_its_closed_formula(parts: Parts, sums: Sums, variant: str, sft_weight: float) -> None:
    settings, formula = VARIANTS[variant]
    trainer = trainer_of(parts, sft_weight=sft_weight, **settings)
    batch = trainer.method.collate(parts.prepared.training)

    with torch.no_grad():
        loss = trainer.compute_loss(parts.model, batch)
        each = trainer.method.evaluate(parts.model, batch)["loss"]

    assert float(loss) == pytest.approx(formula(sums).mean() + sft_weight * sums.sft, rel=1e-6, abs=1e-6)
    alone = formula(sums) - sft_weight * sums.chosen / sums.chosen_codes
    np.testing.assert_allclose(each.numpy(), alone, rtol=1e-6, atol=1e-6)


def test_the_parts_of_a_step_add_up_to_its_loss_and_gradient(parts: Parts) -> None:
    trainer = trainer_of(parts, sft_weight=0.7)
    trained = [part for part in parts.model.parameters() if part.requires_grad]
    whole, *some = (
        trainer.method.collate(parts.prepared.training[start:end]) for start, end in ((0, 4), (0, 1), (1, 4))
    )
    targets = trainer.method.targets(whole)

    loss, _ = trainer.method.loss(parts.model, whole, targets)
    gradient = torch.autograd.grad(loss, trained)
    losses = [trainer.method.loss(parts.model, batch, targets)[0] for batch in some]
    gradients = zip(*(torch.autograd.grad(one, trained) for one in losses), strict=True)

    assert sum(one.item() for one in losses) == pytest.approx(loss.item(), rel=1e-6)
    for one, (first, second) in zip(gradient, gradients, strict=True):
        torch.testing.assert_close(first + second, one, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("loss", ["DPO_LOSS_SIGMOID", "DPO_LOSS_SIGMOID_NORM", "DPO_LOSS_IPO"])
def test_a_reward_is_beta_times_the_log_ratio_that_the_loss_compares(parts: Parts, sums: Sums, loss: str) -> None:
    trainer = trainer_of(parts, loss=loss, beta=3)
    batch = trainer.method.collate(parts.prepared.training)

    with torch.no_grad():
        metrics = trainer.method.evaluate(parts.model, batch)

    distance = sums.distance if loss == "DPO_LOSS_SIGMOID" else sums.mean_distance
    np.testing.assert_allclose(metrics["rewards/margin"], 3 * distance, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(metrics["rewards/chosen"] - metrics["rewards/rejected"], metrics["rewards/margin"])
    np.testing.assert_array_equal(metrics["rewards/accuracy"], distance > 0)
    np.testing.assert_allclose(metrics["logps/chosen"], sums.chosen, rtol=1e-6)
    np.testing.assert_allclose(metrics["logps/rejected"], sums.rejected, rtol=1e-6)


def test_dropout_is_none_in_training_so_a_clip_scores_the_same_twice(parts: Parts) -> None:
    batch = trainer_of(parts).method.collate(parts.prepared.training)

    parts.model.train()
    with torch.no_grad():
        once, again = (dpo.score(parts.model, batch) for _ in range(2))
        parts.model.eval()
        still = dpo.score(parts.model, batch)

    torch.testing.assert_close(once, again, rtol=0, atol=0)
    torch.testing.assert_close(once, still, rtol=0, atol=0)
