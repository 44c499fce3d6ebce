"""Supervised fine-tuning: a batch and a loss. The decoder learns to predict the codes of each clip from its prompt.

A share of the clips is trained without the prompt, so that guidance, the difference between the two, keeps working.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from transformers import TrainingArguments

from trainer_node import preflight
from trainer_node.engines.musicgen import family, losses, processes
from trainer_node.engines.musicgen.examples import Example
from trainer_node.engines.musicgen.family import Batch
from trainer_node.engines.musicgen.loop import AdapterTrainer
from trainer_node.engines.musicgen.session import Kind, Parts, run
from trainer_node.training import Blobs, Outcome, StopRequested, Telemetry, TrainingJob


class Supervised:
    """The method: mean negative log-likelihood of the codes. `generators` is what a checkpoint must keep of it."""

    def __init__(self, *, channels: int, prompt_dropout: float, seed: int) -> None:
        self.channels = channels
        self.prompt_dropout = prompt_dropout
        self._dropping = torch.Generator().manual_seed(seed)
        self.generators = {"prompt_dropout": self._dropping}

    def collate(self, examples: Sequence[Example]) -> Batch:
        """Examples of one clip each as one batch."""
        return family.collate([example.clips[0] for example in examples], channels=self.channels)

    def targets(self, batch: Batch) -> Tensor:
        """How many codes of a batch are predicted."""
        return losses.count_targets(batch["labels_BKS"])

    def loss(self, model: Any, batch: Batch, targets: Tensor | None) -> tuple[Tensor, Mapping[str, Tensor]]:
        """The training loss, in nats a token; `targets` is the count over a whole accumulated step."""
        dropped_B = None
        if self.prompt_dropout:
            drawn_B = torch.rand(len(batch["labels_BKS"]), generator=self._dropping)
            dropped_B = (drawn_B < self.prompt_dropout).to(batch["mask_BL"].device)
        logits_BKSV = family.score(model, batch, without_prompt_B=dropped_B)
        return losses.mean_nll(logits_BKSV, batch["labels_BKS"], targets=targets), {}

    def evaluate(self, model: Any, batch: Batch) -> Mapping[str, Tensor]:
        """The validation loss of each clip, in nats a token."""
        return {"loss": losses.clip_nll(family.score(model, batch), batch["labels_BKS"])}


def train(job: TrainingJob, telemetry: Telemetry, blobs: Blobs, stop: StopRequested) -> Outcome:
    """Train a supervised adapter; see trainer_node.training.Train."""
    spec = job.job.spec.supervised
    preflight.require_samples(job.samples)

    def build(parts: Parts) -> AdapterTrainer:
        channels = parts.prepared.base.channels
        return AdapterTrainer(
            Supervised(
                channels=channels,
                prompt_dropout=spec.prompt_dropout,
                seed=spec.training.seed + processes.rank(),  # no process repeats what another drops
            ),
            course=parts.course,
            model=parts.model,
            args=TrainingArguments(**parts.arguments),
            train_dataset=parts.prepared.training,
            eval_dataset=parts.prepared.validation or None,
            callbacks=parts.callbacks,
        )

    return run(job, telemetry, blobs, stop, settings=spec, kind=Kind(build=build))
