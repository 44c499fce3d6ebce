"""Ranking: a batch and a loss. The decoder learns to find better clips of a prompt likelier than worse ones.

A clip's score is its mean log-probability a token, less the reference's: what training has changed. So clips of any
length compare, and a list begins without an order; the clip's own likelihood, which says more of how plain it sounds
than of how good, is left out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from transformers import TrainingArguments

from trainer_node import preflight
from trainer_node.engines.musicgen import family, losses, ranking_losses
from trainer_node.engines.musicgen.examples import Example
from trainer_node.engines.musicgen.loop import AdapterTrainer
from trainer_node.engines.musicgen.session import Kind, Parts, run
from trainer_node.training import Blobs, Outcome, StopRequested, Telemetry, TrainingJob
from tunesmith.v1 import job_spec_pb2

METRICS = ("rank/kendall_tau", "rank/pair_accuracy", "rank/margin")


class Lists(family.Batch):
    """The clips of all lists, list after list, with what places them.

    ranks_NL: as in ranking_losses; its rows and columns, padding left out, are the clips in their order. reference_NL:
    mean log-probability a token under the reference in nats, 0 where there is none.
    """

    ranks_NL: Tensor
    reference_NL: Tensor


class Ranking:
    """The method. One forward pass takes all clips of all lists of a batch, so that wrappers such as DDP see one."""

    def __init__(self, settings: job_spec_pb2.RankingSpec, *, channels: int) -> None:
        self.settings = settings
        self.channels = channels
        self.generators: Mapping[str, torch.Generator] = {}

    def collate(self, examples: Sequence[Example]) -> Lists:
        """Lists of any lengths as one batch."""
        batch = family.collate([clip for example in examples for clip in example.clips], channels=self.channels)
        ranks = [torch.tensor(example.ranks) for example in examples]
        references = [_reference(example) for example in examples]
        return Lists(
            **batch,
            ranks_NL=pad_sequence(ranks, batch_first=True, padding_value=ranking_losses.PADDING),
            reference_NL=pad_sequence(references, batch_first=True),
        )

    def targets(self, batch: Lists) -> Tensor:
        """How many lists a batch has: each weighs the same, whatever its length."""
        return torch.tensor(len(batch["ranks_NL"]))

    def loss(self, model: Any, batch: Lists, targets: Tensor | None) -> tuple[Tensor, Mapping[str, Tensor]]:
        """The training loss; `targets` is the number of lists in a whole accumulated step."""
        loss_N, metrics = self._losses(model, batch)
        return (loss_N.sum() / (len(loss_N) if targets is None else targets)).float(), metrics

    def evaluate(self, model: Any, batch: Lists) -> Mapping[str, Tensor]:
        """The validation loss and the metrics of each list."""
        loss_N, metrics = self._losses(model, batch)
        return {"loss": loss_N, **metrics}

    def _losses(self, model: Any, batch: Lists) -> tuple[Tensor, Mapping[str, Tensor]]:
        """loss_N and the metrics of each list, in 64 bits."""
        nll_B = losses.clip_nll(family.score(model, batch), batch["labels_BKS"])
        ranks_NL, reference_NL = batch["ranks_NL"], batch["reference_NL"]
        nll_NL = torch.zeros_like(reference_NL).masked_scatter(ranks_NL != ranking_losses.PADDING, nll_B)
        scores_NL = -nll_NL - reference_NL
        loss_N = self._order(scores_NL, ranks_NL)
        if self.settings.sft_weight:
            loss_N = loss_N + self.settings.sft_weight * ranking_losses.mean_of_best(nll_NL, ranks_NL)
        return loss_N, ranking_losses.agreement(scores_NL, ranks_NL)

    def _order(self, scores_NL: Tensor, ranks_NL: Tensor) -> Tensor:
        settings = self.settings
        if settings.loss == job_spec_pb2.RANKING_LOSS_PLACKETT_LUCE:
            return ranking_losses.plackett_luce(scores_NL, ranks_NL, temperature=settings.temperature)
        return ranking_losses.margin(scores_NL, ranks_NL, wished=settings.margin)


def _reference(example: Example) -> Tensor:
    """reference_L in 64 bits; every code of a clip is one token."""
    if not example.reference:
        return torch.zeros(len(example.clips), dtype=torch.float64)
    tokens_L = torch.tensor([clip.codes_KT.numel() for clip in example.clips])
    return torch.tensor(example.reference, dtype=torch.float64) / tokens_L


def train(job: TrainingJob, telemetry: Telemetry, blobs: Blobs, stop: StopRequested) -> Outcome:
    """Train an adapter on ranked lists, or on pairs as lists of two; see trainer_node.training.Train."""
    spec = job.job.spec.ranking
    preflight.require_lists(job.comparisons)

    def build(parts: Parts) -> AdapterTrainer:
        return AdapterTrainer(
            Ranking(spec, channels=parts.prepared.base.channels),
            course=parts.course,
            model=parts.model,
            args=TrainingArguments(**parts.arguments),
            train_dataset=parts.prepared.training,
            eval_dataset=parts.prepared.validation or None,
            callbacks=parts.callbacks,
        )

    kind = Kind(build=build, needs_reference=spec.relative_to_reference, metrics=METRICS)
    return run(job, telemetry, blobs, stop, settings=spec, kind=kind)
