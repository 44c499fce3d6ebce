"""From a stream of tokens to batches: windows of equal length, cut anew and shuffled for each epoch.

Everything about an epoch follows from the seed and its number, so a training that goes on in its middle needs no state
but the position. Axes: B windows of a batch, T tokens of a window, W windows of an epoch.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from trainer_node.errors import DataInvalid

Tokens = npt.NDArray[np.uint16] | npt.NDArray[np.int32]


def as_tensor(tokens: Tokens, *, vocab_size: int, what: str) -> Tensor:
    """Tokens as int64, ready to be cut. what: such as `training`. Raises DataInvalid where an id is not in [0, V)."""
    stream = torch.from_numpy(np.asarray(tokens).astype(np.int64).reshape(-1))
    if len(stream) and not 0 <= int(stream.min()) <= int(stream.max()) < vocab_size:
        worst = int(stream.min()) if int(stream.min()) < 0 else int(stream.max())
        raise DataInvalid(
            f"the {what} tokens hold the id {worst}, and the vocabulary ends at {vocab_size - 1}; tokenize the corpus "
            "again with the tokenizer of this model"
        )
    return stream


@dataclass(frozen=True)
class Epoch:
    """The windows of one epoch. starts_W: where each begins, in the order of training."""

    tokens: Tensor
    starts_W: Tensor
    seq: int
    batch_size: int

    def batch(self, position: int) -> tuple[Tensor, Tensor]:
        """Batch number `position`, from 0: its tokens and those that follow each of them, [B, T] and [B, T]."""
        starts_B = self.starts_W[position * self.batch_size : (position + 1) * self.batch_size]
        at_BT = starts_B[:, None] + torch.arange(self.seq)
        return self.tokens[at_BT], self.tokens[at_BT + 1]


class Windows:
    """The training stream. Each epoch cuts it at another offset, so that a token is seen with other contexts.

    Raises DataInvalid where there are too few tokens for one window.
    """

    def __init__(self, tokens: Tensor, *, seq: int, batch_size: int, seed: int) -> None:
        self.tokens, self.seq, self.seed = tokens, seq, seed
        self.windows = (len(tokens) - seq) // seq  # as many for every offset below seq
        if self.windows < 1:
            fits = max(2, len(tokens) // 2)
            raise DataInvalid(
                f"the training text has {len(tokens)} tokens, too few for a window of {seq}; add text, or reduce "
                f"max_seq_length from {seq} to {min(fits, seq)}"
            )
        self.batch_size = min(batch_size, self.windows)
        self.steps_per_epoch = self.windows // self.batch_size  # what is left over waits for another epoch

    def epoch(self, number: int) -> Epoch:
        """Epoch `number`, from 0."""
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + number)
        offset = int(torch.randint(self.seq, (1,), generator=generator))
        starts_W = torch.randperm(self.windows, generator=generator) * self.seq + offset
        return Epoch(self.tokens, starts_W, self.seq, self.batch_size)


def in_order(tokens: Tensor, *, seq: int, batch_size: int) -> Iterator[tuple[Tensor, Tensor]]:
    """A whole stream, to measure on: windows side by side, each token but the first is a target once. B, T may be less
    in the last batches. Fewer than two tokens: nothing."""
    whole = max(0, len(tokens) - 1) // seq
    if whole:
        inputs_WT, targets_WT = tokens[: whole * seq].view(whole, seq), tokens[1 : whole * seq + 1].view(whole, seq)
        for begin in range(0, whole, batch_size):
            yield inputs_WT[begin : begin + batch_size], targets_WT[begin : begin + batch_size]
    if len(tokens) - 1 > whole * seq:
        yield tokens[whole * seq : -1][None], tokens[whole * seq + 1 :][None]
