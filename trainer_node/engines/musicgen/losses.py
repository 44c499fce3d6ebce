"""Losses on the decoder's logits, in nats. Pure functions of tensors."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from trainer_node.engines.musicgen.codes import IGNORE


def token_nll(logits_BKSV: Tensor, labels_BKS: Tensor) -> Tensor:
    """nll_BKS: negative log-likelihood of each target, 0 where there is none; computed in 32 bits."""
    flat = F.cross_entropy(
        logits_BKSV.flatten(0, 2).float(), labels_BKS.flatten(), ignore_index=IGNORE, reduction="none"
    )
    return flat.view_as(labels_BKS)


def count_targets(labels_BKS: Tensor) -> Tensor:
    """How many targets a batch has, as a scalar."""
    return (labels_BKS != IGNORE).sum()


def mean_nll(logits_BKSV: Tensor, labels_BKS: Tensor, *, targets: Tensor | None = None) -> Tensor:
    """Mean negative log-likelihood of a batch. Equals the mean over codebooks of each codebook's mean, which is
    audiocraft's and transformers' loss, since every codebook has the same number of targets (see codes.delay).

    targets: what to divide by instead of the batch's own count. With the count of a whole accumulated batch, the
    losses of its parts add up to the loss of the whole, whatever the lengths of the clips.
    """
    total = token_nll(logits_BKSV, labels_BKS).sum()
    return total / (count_targets(labels_BKS) if targets is None else targets)


def clip_nll(logits_BKSV: Tensor, labels_BKS: Tensor) -> Tensor:
    """nll_B: mean negative log-likelihood of each clip; summed in 64 bits, since rankings live on small differences."""
    total_B = token_nll(logits_BKSV, labels_BKS).sum((1, 2), dtype=torch.float64)
    return total_B / (labels_BKS != IGNORE).sum((1, 2))
