"""Which examples make up which batch, and which of them this process takes.

The order is drawn anew for each epoch, from the seed and the epoch's number alone. The batch of a step is the same
whether one process takes it or several share it, so that they come to the same loss.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch.utils.data import DataLoader, Sampler

from trainer_node.engines.musicgen import processes
from trainer_node.engines.musicgen.examples import Example

Collate = Callable[[list[Example]], Any]


class Shares(Sampler[list[int]]):
    """Each batch of an epoch, cut to the share of one of `processes` processes.

    batch_size: of one process. A batch at the end of an epoch that is not full is dealt out evenly; where it has fewer
    examples than there are processes, some of them are taken twice.
    """

    def __init__(self, examples: int, batch_size: int, *, seed: int, rank: int, processes: int) -> None:
        self.examples = examples
        self.together = batch_size * processes
        self.seed = seed
        self.rank = rank
        self.processes = processes
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Draw the order of this epoch, from 0."""
        self.epoch = epoch

    def __iter__(self) -> Iterator[list[int]]:
        drawing = torch.Generator().manual_seed(self.seed + self.epoch)
        order = torch.randperm(self.examples, generator=drawing).tolist()
        for start in range(0, self.examples, self.together):
            batch = order[start : start + self.together]
            yield batch[self.rank :: self.processes] or [batch[self.rank % len(batch)]]

    def __len__(self) -> int:
        return math.ceil(self.examples / self.together)


class _Epochs(DataLoader[Any]):
    """The Trainer tells its loader the epoch; one that was cut by a resume it looks through to the sampler itself."""

    def set_epoch(self, epoch: int) -> None:
        self.batch_sampler.set_epoch(epoch)  # type: ignore[union-attr]  # Shares


def training_batches(
    examples: Sequence[Example], batch_size: int, collate: Collate, *, seed: int, pin: bool
) -> DataLoader[Any]:
    """This process's share of every batch."""
    shares = Shares(len(examples), batch_size, seed=seed, rank=processes.rank(), processes=processes.count())
    return _Epochs(examples, batch_sampler=shares, collate_fn=collate, pin_memory=pin)  # type: ignore[arg-type]  # a sequence will do


def held_out_batches(examples: Sequence[Example], batch_size: int, collate: Collate) -> DataLoader[Any]:
    """Every n-th batch of n processes, so that each example is heard once; a process may have none."""
    batches = [
        list(range(start, min(start + batch_size, len(examples)))) for start in range(0, len(examples), batch_size)
    ]
    mine = batches[processes.rank() :: processes.count()]
    return DataLoader(examples, batch_sampler=mine, collate_fn=collate)  # type: ignore[arg-type]  # a sequence will do
