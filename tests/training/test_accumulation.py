"""What saves memory changes no number: batches in parts, and activations that are computed again.

transformers would double the gradients of an accumulated MusicGen batch, and weigh a small last part like a full one.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from tests.training import preference_studio
from tests.training.studio import Studio, Training

LENGTHS = [0.3, 0.7, 0.4, 0.6, 0.5, 0.2, 0.8]

Train = Callable[..., Training]


@pytest.fixture(params=["supervised", "dpo", "ranking"])
def train(request: pytest.FixtureRequest, studio: Studio) -> Train:
    """Trains each kind on 7 clips, pairs or lists of three, of different lengths; nothing is held out."""
    kind = request.param
    samples = studio.samples(7, length_s=LENGTHS)
    compared = preference_studio.comparisons(studio, 7, size=2 if kind == "dpo" else 3, length_s=LENGTHS)

    def run(training: dict[str, Any]) -> Training:
        same: dict[str, Any] = {"validation": {"validation_fraction": 0}, "training": {"epochs": 3, **training}}
        if kind == "supervised":
            return studio.train(samples, prompt_dropout=0.3, **same)
        return preference_studio.train(studio, kind, compared, sft_weight=0.1, **same)

    return run


def weights(done: Training) -> dict[str, torch.Tensor]:
    return load_file(Path(done.output_dir) / "adapter" / "adapter_model.safetensors")


def require_equal(one: Training, other: Training, *, rel: float) -> None:
    """The same losses, gradient norms and metrics at the same steps, and the same adapter at the end."""
    assert [step for step, _ in one.rows()] == [step for step, _ in other.rows()]
    for (_, expected), (_, values) in zip(one.rows(), other.rows(), strict=True):
        if abs(expected.get("rewards/margin", 1)) < 1e-3:  # its sign is a rounding error's
            values = values | {"rewards/accuracy": expected["rewards/accuracy"]}
        assert values == pytest.approx(expected, rel=rel, abs=rel)
    tensors = weights(other)
    for name, tensor in weights(one).items():
        torch.testing.assert_close(tensors[name], tensor, rtol=100 * rel, atol=100 * rel)


@pytest.mark.parametrize(
    ("batch_size", "parts"),
    [pytest.param(4, 2, id="a last part of three"), pytest.param(3, 3, id="a last part of one")],
)
def test_a_batch_in_parts_is_the_whole_batch(train: Train, batch_size: int, parts: int) -> None:
    whole = train({"batch_size": 7})

    in_parts = train({"batch_size": batch_size, "gradient_accumulation_steps": parts})

    require_equal(whole, in_parts, rel=1e-5)


def test_an_epoch_that_ends_in_the_middle_of_a_batch_weighs_what_there_is(train: Train) -> None:
    whole = train({"batch_size": 4})  # 4 and 3

    in_parts = train({"batch_size": 2, "gradient_accumulation_steps": 2})  # 2 and 2, 2 and 1

    require_equal(whole, in_parts, rel=1e-5)


def test_gradient_checkpointing_changes_no_number(train: Train) -> None:
    kept = train({"batch_size": 4})

    computed_again = train({"batch_size": 4, "gradient_checkpointing": True})

    require_equal(kept, computed_again, rel=1e-6)
