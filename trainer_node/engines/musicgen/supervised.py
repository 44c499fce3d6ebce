"""Supervised fine-tuning: a batch and a loss. The decoder learns to predict the codes of each clip from its prompt.

A share of the clips is trained without the prompt, so that guidance, the difference between the two, keeps working.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from trainer_node.engines.musicgen import family, losses
from trainer_node.engines.musicgen.family import Batch, Clip
from trainer_node.engines.musicgen.session import run
from trainer_node.training import Blobs, Outcome, StopRequested, Telemetry, TrainingJob


class Supervised:
    """The method: mean negative log-likelihood of the codes. `generators` is what a checkpoint must keep of it."""

    def __init__(self, *, channels: int, prompt_dropout: float, seed: int) -> None:
        self.channels = channels
        self.prompt_dropout = prompt_dropout
        self._dropping = torch.Generator().manual_seed(seed)
        self.generators = {"prompt_dropout": self._dropping}

    def collate(self, clips: Sequence[Clip]) -> Batch:
        """Clips as one batch."""
        return family.collate(clips, channels=self.channels)

    def targets(self, batch: Batch) -> Tensor:
        """How many codes of a batch are predicted."""
        return losses.count_targets(batch["labels_BKS"])

    def loss(self, model: Any, batch: Batch, targets: Tensor | None) -> Tensor:
        """The training loss, in nats a token; `targets` is the count over a whole accumulated step."""
        dropped_B = None
        if self.prompt_dropout:
            drawn_B = torch.rand(len(batch["labels_BKS"]), generator=self._dropping)
            dropped_B = (drawn_B < self.prompt_dropout).to(batch["mask_BL"].device)
        logits_BKSV = family.score(model, batch, without_prompt_B=dropped_B)
        return losses.mean_nll(logits_BKSV, batch["labels_BKS"], targets=targets)

    def eval_loss(self, model: Any, batch: Batch) -> Tensor:
        """The validation loss: each clip weighs the same, so that the batch size does not change it."""
        return losses.clip_nll(family.score(model, batch), batch["labels_BKS"]).mean()


def train(job: TrainingJob, telemetry: Telemetry, blobs: Blobs, stop: StopRequested) -> Outcome:
    """Train a supervised adapter; see trainer_node.training.Train."""
    spec = job.job.spec.supervised

    def method(channels: int) -> Supervised:
        return Supervised(channels=channels, prompt_dropout=spec.prompt_dropout, seed=spec.training.seed)

    return run(job, telemetry, blobs, stop, settings=spec, method=method)
