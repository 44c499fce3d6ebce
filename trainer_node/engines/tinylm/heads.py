"""Heads: from a hidden state to an exact distribution over the whole vocabulary, and to the loss of what came.

`PlainHead` is one softmax over all tokens. `TreeHead` gets there in two steps, each an exact softmax: first the
frequent tokens and one slot for each cluster of rarer ones, then, only where the token lies in a cluster, a softmax
within it: log p(token) = log p(cluster) + log p(token | cluster). With clusters cut by frequency most tokens are
settled in the small first softmax, which takes an eighth of the products; the loss stays comparable, token by token.

Neither ever holds the [N, V] logits in training: `FusedCrossEntropy` goes through them in chunks, and computes the
gradients while each is at hand. Axes: N positions, D hidden, V vocabulary, C classes of one softmax, R rows of a chunk.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from trainer_node.engines.tinylm.settings import HeadKind

CUTS = (200, 1300, 3600)  # measured: of 8,000 pieces, the 200 most frequent make up 58 % of a text
# A cluster's rows are padded to a multiple: oneDNN compiles, and keeps, a kernel for every size that it meets.
ROWS = 32
# Numbers of one chunk of logits: few enough to pass through a cache, enough for a product to be worth its while.
CHUNK_LOGITS = 4 << 20


class FusedCrossEntropy(torch.autograd.Function):
    """Σ −log softmax(hidden · weightᵀ)[target] · scale, and both gradients, without the logits of all positions.

    In bf16 the logits and probabilities are rounded to bf16; the loss and the sum over chunks are fp32.
    """

    @staticmethod
    def forward(ctx: Any, hidden_ND: Tensor, weight_CD: Tensor, targets_N: Tensor, scale: float, real: int) -> Tensor:
        """The loss as a scalar in fp32. targets_N: int64, below C. real: how many rows count; those after it pad."""
        classes, rows = weight_CD.shape[0], max(1, CHUNK_LOGITS // weight_CD.shape[0])
        # Of no rows, as in a cluster of which nothing came, the gradient stays one zero, which expand_as shows in
        # every place: no matrix is written.
        grad_hidden_ND, grad_weight_CD = torch.empty_like(hidden_ND), torch.zeros((), dtype=weight_CD.dtype)
        loss = torch.zeros((), dtype=torch.float32)
        for begin in range(0, len(targets_N), rows):
            hidden_RD, targets_R = hidden_ND[begin : begin + rows], targets_N[begin : begin + rows]
            probs_RC = hidden_RD @ weight_CD.t()
            torch.softmax(probs_RC, -1, out=probs_RC)
            at_target = torch.arange(0, probs_RC.numel(), classes) + targets_R
            target_R = probs_RC.view(-1)[at_target]
            loss -= target_R[: max(0, real - begin)].float().log().sum()
            probs_RC.view(-1)[at_target] = target_R - 1  # d loss / d logits = p − 1 at the target, p elsewhere
            probs_RC[max(0, real - begin) :] = 0
            torch.mm(probs_RC, weight_CD, out=grad_hidden_ND[begin : begin + rows])
            part_CD = probs_RC.t() @ (hidden_RD * scale)
            grad_weight_CD = part_CD if begin == 0 else grad_weight_CD.float().add_(part_CD)
        ctx.save_for_backward(grad_hidden_ND.mul_(scale), grad_weight_CD.expand_as(weight_CD).to(weight_CD.dtype))
        return loss * scale

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor, None, None, None]:
        """What `forward` found, times the gradient of the loss."""
        grad_hidden_ND, grad_weight_CD = ctx.saved_tensors
        factor = grads[0].item()
        if factor != 1:
            return grad_hidden_ND * factor, grad_weight_CD * factor, None, None, None
        return grad_hidden_ND, grad_weight_CD, None, None, None


def fused_cross_entropy(
    hidden_ND: Tensor, weight_CD: Tensor, targets_N: Tensor, *, scale: float, real: int | None = None
) -> Tensor:
    """Σ −log p(target) · scale of one softmax, over the first `real` rows; gradients reach hidden and weight."""
    real = len(targets_N) if real is None else real
    loss: Tensor = FusedCrossEntropy.apply(hidden_ND, weight_CD, targets_N, scale, real)  # type: ignore[no-untyped-call]  # torch's
    return loss


class Head(nn.Module):
    """An exact distribution over the vocabulary. A base class; its subclasses say how."""

    def log_prob(self, hidden: Tensor) -> Tensor:
        """Log-probabilities in nats, fp32, [..., V] of hidden [..., D]."""
        raise NotImplementedError

    def loss(self, hidden_ND: Tensor, targets_N: Tensor, *, tokens: int) -> Tensor:
        """Σ −log p(target) ÷ `tokens`, to train by. tokens: of the whole batch, of which these may be a part."""
        raise NotImplementedError

    def total_loss(self, hidden_ND: Tensor, targets_N: Tensor) -> float:
        """Σ −log p(target) in nats, to measure by: summed in fp64, no gradient, and as exact as the weights' type."""
        raise NotImplementedError


class PlainHead(Head):
    """One softmax over all tokens."""

    def __init__(self, d_model: int, vocab_size: int) -> None:
        super().__init__()
        self.output = nn.Linear(d_model, vocab_size, bias=False)

    def log_prob(self, hidden: Tensor) -> Tensor:
        return F.log_softmax(self.output(hidden).float(), -1)

    def loss(self, hidden_ND: Tensor, targets_N: Tensor, *, tokens: int) -> Tensor:
        return fused_cross_entropy(hidden_ND, self.output.weight, targets_N, scale=1 / tokens)

    def total_loss(self, hidden_ND: Tensor, targets_N: Tensor) -> float:
        return _total(hidden_ND, self.output.weight, targets_N)


class TreeHead(Head):
    """Frequent tokens and clusters in one softmax, the tokens of each cluster in another.

    cuts: ranks at which clusters begin; the first is how many tokens have a slot of their own in the first softmax.
    ranks_V: of each token, 0 the most frequent; kept with the weights, for they mean nothing without it.
    """

    ranks_V: Tensor

    def __init__(self, d_model: int, vocab_size: int, ranks_V: Tensor, cuts: Sequence[int] = CUTS) -> None:
        super().__init__()
        cuts = [cut for cut in cuts if cut < vocab_size]
        self.frequent = cuts[0] if cuts else vocab_size
        self.bounds = list(itertools.pairwise([*cuts, vocab_size]))  # ranks [begin, end) of each cluster
        self.register_buffer("ranks_V", ranks_V.to(torch.int64))
        self.root = nn.Linear(d_model, self.frequent + len(self.bounds), bias=False)
        self.clusters = nn.ModuleList(nn.Linear(d_model, end - begin, bias=False) for begin, end in self.bounds)

    def log_prob(self, hidden: Tensor) -> Tensor:
        root = F.log_softmax(self.root(hidden).float(), -1)
        parts = [root[..., : self.frequent]]
        for slot, cluster in enumerate(self.clusters, self.frequent):
            parts.append(F.log_softmax(cluster(hidden).float(), -1) + root[..., slot : slot + 1])
        return torch.cat(parts, -1)[..., self.ranks_V]

    def loss(self, hidden_ND: Tensor, targets_N: Tensor, *, tokens: int) -> Tensor:
        scale = 1 / tokens
        ranks_N = self.ranks_V[targets_N]
        loss = fused_cross_entropy(hidden_ND, self.root.weight, self._slots(ranks_N), scale=scale)
        for rows, classes, weight in self._members(ranks_N):
            padding = (0, -len(rows) % ROWS)
            hidden_RD, classes_R = hidden_ND.index_select(0, F.pad(rows, padding)), F.pad(classes, padding)
            loss = loss + fused_cross_entropy(hidden_RD, weight, classes_R, scale=scale, real=len(rows))
        return loss

    def total_loss(self, hidden_ND: Tensor, targets_N: Tensor) -> float:
        ranks_N = self.ranks_V[targets_N]
        total = _total(hidden_ND, self.root.weight, self._slots(ranks_N))
        for rows, classes, weight in self._members(ranks_N):
            total += _total(hidden_ND[rows], weight, classes)
        return total

    def _slots(self, ranks_N: Tensor) -> Tensor:
        """The class of each token in the first softmax: itself, or its cluster."""
        begins = torch.tensor([begin for begin, _ in self.bounds])
        clusters_N = torch.bucketize(ranks_N, begins, right=True) - 1  # −1: frequent
        return torch.where(clusters_N < 0, ranks_N, self.frequent + clusters_N)

    def _members(self, ranks_N: Tensor) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """Of each cluster: the rows in it, possibly none, the class of each within it, and the cluster's weight."""
        for (begin, end), cluster in zip(self.bounds, self.clusters, strict=True):
            rows = ((ranks_N >= begin) & (ranks_N < end)).nonzero().squeeze(1)
            yield rows, ranks_N[rows] - begin, cast(nn.Linear, cluster).weight


def _total(hidden_ND: Tensor, weight_CD: Tensor, targets_N: Tensor) -> float:
    rows = max(1, CHUNK_LOGITS // weight_CD.shape[0])
    total = 0.0
    for begin in range(0, len(targets_N), rows):
        logits_RC = F.linear(hidden_ND[begin : begin + rows], weight_CD).float()
        losses_R = F.cross_entropy(logits_RC, targets_N[begin : begin + rows], reduction="none")
        total += losses_R.double().sum().item()
    return total


def ranks_by_frequency(tokens: Tensor, vocab_size: int) -> Tensor:
    """The rank of each token in a text, [V]: 0 the most frequent; among equals the lower id comes first."""
    counts_V = torch.bincount(tokens.to(torch.int64), minlength=vocab_size)
    order_V = torch.sort(counts_V, descending=True, stable=True).indices
    ranks_V = torch.empty_like(order_V)
    ranks_V[order_V] = torch.arange(vocab_size)
    return ranks_V


def make_head(kind: HeadKind, d_model: int, vocab_size: int, ranks_V: Tensor | None = None) -> Head:
    """The head of a model. ranks_V: see TreeHead; by default the order of the ids, which is SentencePiece's."""
    if kind == "plain":
        return PlainHead(d_model, vocab_size)
    return TreeHead(d_model, vocab_size, torch.arange(vocab_size) if ranks_V is None else ranks_V)
