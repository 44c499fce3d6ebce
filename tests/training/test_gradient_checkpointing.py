"""Gradient checkpointing really computes again; that it changes no number stands with each kind of training."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from transformers.models.musicgen.modeling_musicgen import MusicgenAttention

from tests.training import preference_studio
from tests.training.studio import Studio

KINDS: dict[str, Callable[..., object]] = {
    "supervised": lambda studio, **changes: studio.train(studio.samples(3), **changes),
    "dpo": lambda studio, **changes: preference_studio.train(
        studio, "dpo", preference_studio.comparisons(studio, 3), **changes
    ),
    "ranking": lambda studio, **changes: preference_studio.train(
        studio, "ranking", preference_studio.comparisons(studio, 3, size=3), **changes
    ),
}


@pytest.mark.parametrize("kind", KINDS)
def test_every_layer_of_a_step_runs_twice_with_gradient_checkpointing(
    studio: Studio, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    without = attentions(studio, kind, monkeypatch, gradient_checkpointing=False)
    with_it = attentions(studio, kind, monkeypatch, gradient_checkpointing=True)

    assert without > 0
    assert with_it == 2 * without


def attentions(studio: Studio, kind: str, monkeypatch: pytest.MonkeyPatch, **settings: Any) -> int:
    """How often an attention ran that gradients go through: neither for a reference nor for an evaluation.

    Counted inside the decoder's layers, since transformers checkpoints nothing where a layer itself is patched.
    """
    run, count = MusicgenAttention.forward, 0

    def counted(*args: Any, **kwargs: Any) -> Any:
        nonlocal count
        count += torch.is_grad_enabled()
        return run(*args, **kwargs)

    with monkeypatch.context() as patched:
        patched.setattr(MusicgenAttention, "forward", counted)
        KINDS[kind](studio, training={"epochs": 1, **settings})
    return count
