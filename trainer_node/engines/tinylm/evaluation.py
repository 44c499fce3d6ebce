"""The loss of a model on a text: fp32, over the full vocabulary, without dropout."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import starmap
from typing import Protocol

import torch
from torch import Tensor

from trainer_node.engines.tinylm.model import TinyTransformer
from trainer_node.engines.tinylm.windows import in_order
from trainer_node.errors import DataInvalid
from trainer_node.stop_signal import Stopped, never
from trainer_node.training import StopRequested

BATCH = 16  # windows


class RunEach(Protocol):
    """Runs work on each batch and gives the answers in order, possibly several at a time: `starmap`, or better."""

    def __call__(
        self, work: Callable[[Tensor, Tensor], float], batches: Iterable[tuple[Tensor, Tensor]], /
    ) -> Iterable[float]: ...


def mean_loss(
    model: TinyTransformer, tokens: Tensor, *, run_each: RunEach = starmap, stop: StopRequested = never
) -> float:
    """The mean of −log p over a text, in nats a token; e to this power is its perplexity.

    Every token but the first is a target once, with up to max_seq_length tokens before it. tokens: int64, in [0, V).
    stop: asked before each batch, in whichever thread takes it. Raises DataInvalid where there are fewer than two;
    Stopped.
    """
    if len(tokens) < 2:
        raise DataInvalid(f"the text has {len(tokens)} tokens, and a loss needs two; give a longer text")

    def total(inputs_BT: Tensor, targets_BT: Tensor) -> float:
        if stop():
            raise Stopped
        with torch.no_grad():
            return model.head.total_loss(model.hidden(inputs_BT).flatten(0, 1), targets_BT.flatten())

    batches = in_order(tokens, seq=model.settings.max_seq_length, batch_size=BATCH)
    return sum(run_each(total, batches)) / (len(tokens) - 1)
