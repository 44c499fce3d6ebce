"""Training for EnCodec's residual quantizer, which transformers can only use: k-means to begin with, then moving means.

Writes into the buffers of `model.quantizer.layers[level].codebook`, so what is trained is what transformers reads.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import EncodecModel

_KMEANS_ROUNDS, _KMEANS_SAMPLES = 20, 12_000
_DEAD = 0.05  # a code that is used less, of about 2,000 vectors a batch, begins again at a vector of the batch
_BATCH_VECTORS = 2000.0


@dataclass(frozen=True)
class Quantized:
    """latent_BDT: quantised; gradients pass straight through. commitment: mean squared distance of the encoder's
    vectors from their codes, over all levels. codes_KBT: the indices."""

    latent_BDT: Tensor
    commitment: Tensor
    codes_KBT: Tensor


def quantize(model: EncodecModel, latent_BDT: Tensor) -> Quantized:
    """Nearest codes, level by level of what the levels before left over."""
    return _quantize(model, latent_BDT, keep=None, generator=None)


def quantize_and_learn(
    model: EncodecModel, latent_BDT: Tensor, *, keep: float, generator: torch.Generator
) -> Quantized:
    """The same; and each codebook moves towards the vectors that chose it, keeping `keep` of what it was."""
    return _quantize(model, latent_BDT, keep=keep, generator=generator)


@torch.no_grad()
def begin_codebooks(model: EncodecModel, vectors_ND: Tensor, generator: torch.Generator) -> float:
    """Set every codebook by k-means on what is left of the encoder's vectors; returns the unexplained variance."""
    rest_ND = vectors_ND
    for level in model.quantizer.layers:
        book = level.codebook
        chosen = torch.randperm(len(rest_ND), generator=generator)[:_KMEANS_SAMPLES]
        book.embed.copy_(_kmeans(rest_ND[chosen], len(book.embed), generator))
        nearest_N = torch.cdist(rest_ND, book.embed).argmin(1)
        share_V = torch.bincount(nearest_N, minlength=len(book.embed)).float() / len(rest_ND)
        book.cluster_size.copy_(share_V * _BATCH_VECTORS)
        book.embed_avg.copy_(book.embed * book.cluster_size[:, None])
        rest_ND = rest_ND - book.embed[nearest_N]
    return float(rest_ND.pow(2).mean() / vectors_ND.var(0).mean())


def _quantize(
    model: EncodecModel, latent_BDT: Tensor, *, keep: float | None, generator: torch.Generator | None
) -> Quantized:
    batch, _, frames = latent_BDT.shape
    vectors_ND = latent_BDT.transpose(1, 2).flatten(0, 1)
    rest_ND, total_ND, commitment, codes = vectors_ND, torch.zeros_like(vectors_ND), torch.zeros(()), []
    for level in model.quantizer.layers:
        nearest_N = torch.cdist(rest_ND.detach(), level.codebook.embed).argmin(1)
        found_ND = level.codebook.embed[nearest_N].clone()
        if keep is not None:
            _move(level.codebook, rest_ND.detach(), nearest_N, keep, generator)
        commitment = commitment + (rest_ND - found_ND).pow(2).mean()
        total_ND, rest_ND = total_ND + found_ND, rest_ND - found_ND
        codes.append(nearest_N.view(batch, frames))
    through_ND = vectors_ND + (total_ND - vectors_ND).detach()
    return Quantized(through_ND.view(batch, frames, -1).transpose(1, 2), commitment, torch.stack(codes))


@torch.no_grad()
def _move(book: Any, rest_ND: Tensor, nearest_N: Tensor, keep: float, generator: torch.Generator | None) -> None:
    """Exponential moving means of the vectors of each code (van den Oord et al. 2017, appendix A)."""
    count_V = torch.bincount(nearest_N, minlength=len(book.embed)).float()
    sum_VD = torch.zeros_like(book.embed).index_add_(0, nearest_N, rest_ND)
    book.cluster_size.lerp_(count_V, 1 - keep)
    book.embed_avg.lerp_(sum_VD, 1 - keep)
    book.embed.copy_(book.embed_avg / book.cluster_size.clamp(min=1e-3)[:, None])
    dead_V = book.cluster_size < _DEAD
    if dead_V.any():
        anew = rest_ND[torch.randint(len(rest_ND), (int(dead_V.sum()),), generator=generator)]
        book.embed[dead_V], book.embed_avg[dead_V], book.cluster_size[dead_V] = anew, anew, 1.0


def _kmeans(vectors_ND: Tensor, count: int, generator: torch.Generator) -> Tensor:
    """centres_VD, begun as k-means++ does (Arthur & Vassilvitskii 2007): far from those that are there."""
    centres = [vectors_ND[torch.randint(len(vectors_ND), (1,), generator=generator)]]
    distance_N = (vectors_ND - centres[0]).pow(2).sum(1)
    for _ in range(count - 1):
        chosen = torch.multinomial(distance_N.clamp(min=1e-9), 1, generator=generator)
        centres.append(vectors_ND[chosen])
        distance_N = torch.minimum(distance_N, (vectors_ND - centres[-1]).pow(2).sum(1))
    centres_VD = torch.cat(centres)
    for _ in range(_KMEANS_ROUNDS):
        nearest_N = torch.cdist(vectors_ND, centres_VD).argmin(1)
        members_V = torch.bincount(nearest_N, minlength=count).float()
        sum_VD = torch.zeros_like(centres_VD).index_add_(0, nearest_N, vectors_ND)
        anywhere_VD = vectors_ND[torch.randint(len(vectors_ND), (count,), generator=generator)]
        centres_VD = torch.where(members_V[:, None] > 0, sum_VD / members_V[:, None].clamp(min=1), anywhere_VD)
    return centres_VD
