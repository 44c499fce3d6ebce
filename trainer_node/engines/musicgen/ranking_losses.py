"""How ordered lists become a loss, and how well scores agree with an order. Pure functions of tensors.

scores_NL: one score a clip, higher is better; ranks_NL: 1 is the best, equal ranks are tied, 0 is padding after a
shorter list. Only clips of one list and of different rank are compared, and each list has at least two of them. All
results are one value a list, so that lists can be averaged over batches of any shape.
"""

from __future__ import annotations

import torch
from torch import Tensor

PADDING = 0  # in ranks_NL
SAME_SCORE = 1e-4  # nats a token; rounding in 32 bits moves a score by less, and no order is read into that


def margin(scores_NL: Tensor, ranks_NL: Tensor, *, wished: float) -> Tensor:
    """loss_N: mean of max(0, wished - (better - worse)) over the comparable pairs of a list."""
    distance_NLL = scores_NL[:, :, None] - scores_NL[:, None, :]
    return _mean((wished - distance_NLL).relu(), _better(ranks_NL))


def plackett_luce(scores_NL: Tensor, ranks_NL: Tensor, *, temperature: float) -> Tensor:
    """loss_N: negative log-likelihood of a list's order, as picking the best clip of those left, again and again.

    A clip competes with itself and all worse ones, not with those tied with it (Plackett 1975, Luce 1959; for two clips
    Bradley and Terry 1952). Divided by the number of picks that leave something behind: an untrained list of n clips
    then costs between log 2 and log n, not log n!, so that long lists do not drown short ones.
    """
    scaled_NL = scores_NL / temperature
    better_NLL = _better(ranks_NL)
    competes_NLL = better_NLL | torch.eye(ranks_NL.shape[1], dtype=torch.bool, device=ranks_NL.device)
    rivals_NLL = scaled_NL[:, None, :].masked_fill(~competes_NLL, -torch.inf)
    cost_NL = rivals_NLL.logsumexp(2) - scaled_NL  # 0 for a clip without a worse one
    return cost_NL.sum(1) / better_NLL.any(2).sum(1)


def agreement(scores_NL: Tensor, ranks_NL: Tensor) -> dict[str, Tensor]:
    """How scores agree with ranks, one value a list, without gradients.

    rank/kendall_tau: of the comparable pairs, those in order less those in reverse, as a share; -1 to 1.
    rank/pair_accuracy: share of the comparable pairs in order; 0 to 1. rank/margin: mean of better less worse.
    A pair within SAME_SCORE is neither in order nor in reverse.
    """
    better_NLL = _better(ranks_NL)
    distance_NLL = scores_NL.detach()[:, :, None] - scores_NL.detach()[:, None, :]
    in_order_NLL, reversed_NLL = (distance_NLL > SAME_SCORE).double(), (distance_NLL < -SAME_SCORE).double()
    return {
        "rank/kendall_tau": _mean(in_order_NLL - reversed_NLL, better_NLL),
        "rank/pair_accuracy": _mean(in_order_NLL, better_NLL),
        "rank/margin": _mean(distance_NLL, better_NLL),
    }


def mean_of_best(values_NL: Tensor, ranks_NL: Tensor) -> Tensor:
    """mean_N of a value over the best clips of a list, which are several where they are tied."""
    clips_NL = ranks_NL != PADDING
    best_N = ranks_NL.masked_fill(~clips_NL, torch.iinfo(ranks_NL.dtype).max).min(1).values
    best_NL = ranks_NL == best_N[:, None]
    return values_NL.masked_fill(~best_NL, 0).sum(1) / best_NL.sum(1)


def _better(ranks_NL: Tensor) -> Tensor:
    """better_NLL: whether clip i (axis 1) stands above clip j (axis 2)."""
    clips_NL = ranks_NL != PADDING
    both_NLL = clips_NL[:, :, None] & clips_NL[:, None, :]
    return both_NLL & (ranks_NL[:, :, None] < ranks_NL[:, None, :])


def _mean(values_NLL: Tensor, of_NLL: Tensor) -> Tensor:
    return values_NLL.masked_fill(~of_NLL, 0).sum((1, 2)) / of_NLL.sum((1, 2))
