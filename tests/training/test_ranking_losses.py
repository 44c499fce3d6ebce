"""The ranking losses beside brute force in plain 64-bit arithmetic, and what must hold for any scores and any order."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from trainer_node.engines.musicgen import ranking_losses

Loss = Callable[[Tensor, Tensor], Tensor]
Ranked = tuple[list[float], list[int]]

WISHED, TEMPERATURE = 0.3, 0.4
LOSSES = [
    pytest.param(lambda s, r: ranking_losses.margin(s, r, wished=WISHED), id="margin"),
    pytest.param(lambda s, r: ranking_losses.plackett_luce(s, r, temperature=TEMPERATURE), id="plackett_luce"),
]


@st.composite
def ranked_lists(draw: st.DrawFn, *, ties: bool = True, longest: int = 6) -> Ranked:
    """Scores and ranks of one list, best first, not all of them tied."""
    size = draw(st.integers(2, longest))
    steps = draw(st.lists(st.integers(0 if ties else 1, 1), min_size=size - 1, max_size=size - 1).filter(any))
    scores = draw(st.lists(st.floats(-3, 3), min_size=size, max_size=size))
    return scores, list(itertools.accumulate(steps, initial=1))


def one(ranked: Ranked) -> tuple[Tensor, Tensor]:
    """scores_NL and ranks_NL of a single list."""
    return torch.tensor([ranked[0]], dtype=torch.float64), torch.tensor([ranked[1]])


def pairs(ranked: Ranked) -> list[tuple[float, float]]:
    """(score of the better, score of the worse) of every two clips of different rank."""
    scores, ranks = ranked
    places = itertools.permutations(range(len(scores)), 2)
    return [(scores[i], scores[j]) for i, j in places if ranks[i] < ranks[j]]


@given(ranked_lists())
def test_margin_is_the_mean_of_torchs_own_over_all_pairs_of_different_rank(ranked: Ranked) -> None:
    better, worse = (torch.tensor(side, dtype=torch.float64) for side in zip(*pairs(ranked), strict=True))
    theirs = torch.nn.MarginRankingLoss(margin=WISHED)(better, worse, torch.ones_like(better))

    ours = ranking_losses.margin(*one(ranked), wished=WISHED)

    torch.testing.assert_close(ours, theirs[None])


def likelihood(scores: Sequence[float], order: Sequence[int]) -> float:
    """Of an order under Plackett and Luce: the product over its picks of the picked clip's share of what is left."""
    weights = [math.exp(scores[i] / TEMPERATURE) for i in order]
    return math.prod(weights[i] / math.fsum(weights[i:]) for i in range(len(order)))


@given(ranked_lists(ties=False, longest=5))
def test_plackett_luce_is_the_likelihood_of_the_order_among_all_orders(ranked: Ranked) -> None:
    scores, ranks = ranked
    orders = list(itertools.permutations(range(len(scores))))
    picks = len(scores) - 1

    costs = [
        float(ranking_losses.plackett_luce(*one(([scores[i] for i in order], ranks)), temperature=TEMPERATURE))
        for order in orders
    ]

    assert math.fsum(math.exp(-picks * cost) for cost in costs) == pytest.approx(1, rel=1e-9)
    for order, cost in zip(orders, costs, strict=True):
        assert cost == pytest.approx(-math.log(likelihood(scores, order)) / picks, rel=1e-9, abs=1e-12)


@given(better=st.floats(-3, 3), worse=st.floats(-3, 3))
def test_plackett_luce_of_two_is_bradley_terry(better: float, worse: float) -> None:
    cost = ranking_losses.plackett_luce(*one(([better, worse], [1, 2])), temperature=TEMPERATURE)

    win = 1 / (1 + math.exp((worse - better) / TEMPERATURE))
    assert float(cost) == pytest.approx(-math.log(win), rel=1e-12, abs=1e-12)


def test_tied_clips_do_not_compete_with_each_other() -> None:
    scores, ranks = [0.4, -0.2, 0.1, 0.3], [1, 2, 2, 3]

    cost = ranking_losses.plackett_luce(*one((scores, ranks)), temperature=1)

    def pick(chosen: int, *left: int) -> float:
        return -math.log(math.exp(scores[chosen]) / sum(math.exp(scores[i]) for i in (chosen, *left)))

    assert float(cost) == pytest.approx((pick(0, 1, 2, 3) + pick(1, 3) + pick(2, 3)) / 3, rel=1e-12)


@given(ranked_lists())
def test_agreement_counts_pairs(ranked: Ranked) -> None:
    compared = pairs(ranked)
    in_order = sum(better - worse > ranking_losses.SAME_SCORE for better, worse in compared)
    reversed_ = sum(worse - better > ranking_losses.SAME_SCORE for better, worse in compared)

    told = ranking_losses.agreement(*one(ranked))

    assert float(told["rank/kendall_tau"]) == pytest.approx((in_order - reversed_) / len(compared))
    assert float(told["rank/pair_accuracy"]) == pytest.approx(in_order / len(compared))
    assert float(told["rank/margin"]) == pytest.approx(math.fsum(b - w for b, w in compared) / len(compared), abs=1e-12)


@pytest.mark.parametrize(
    ("scores", "tau", "accuracy"),
    [
        ([3.0, 2.0, 1.0], 1, 1),
        ([1.0, 2.0, 3.0], -1, 0),
        ([2.0, 3.0, 1.0], 1 / 3, 2 / 3),
        ([1.0, 1.0 + 1e-6, 1.0 - 1e-6], 0, 0),
    ],
    ids=["in order", "reversed", "one pair reversed", "equal but for rounding"],
)
def test_kendall_tau_of_known_orders(scores: list[float], tau: float, accuracy: float) -> None:
    told = ranking_losses.agreement(*one((scores, [1, 2, 3])))

    assert (float(told["rank/kendall_tau"]), float(told["rank/pair_accuracy"])) == pytest.approx((tau, accuracy))


@pytest.mark.parametrize("loss", LOSSES)
@given(ranked=ranked_lists(), data=st.data())
def test_the_order_in_which_clips_are_given_changes_nothing(loss: Loss, ranked: Ranked, data: st.DataObject) -> None:
    order = data.draw(st.permutations(range(len(ranked[0]))))
    shuffled = [ranked[0][i] for i in order], [ranked[1][i] for i in order]

    torch.testing.assert_close(loss(*one(shuffled)), loss(*one(ranked)))
    torch.testing.assert_close(ranking_losses.agreement(*one(shuffled)), ranking_losses.agreement(*one(ranked)))


@pytest.mark.parametrize("loss", LOSSES)
@given(ranked=ranked_lists(), raised=st.floats(0, 5))
def test_a_higher_score_of_the_best_clip_never_raises_the_loss(loss: Loss, ranked: Ranked, raised: float) -> None:
    scores, ranks = ranked

    assert float(loss(*one(([scores[0] + raised, *scores[1:]], ranks)))) <= float(loss(*one(ranked))) + 1e-12


@pytest.mark.parametrize("loss", LOSSES)
@given(ranked=ranked_lists(), shift=st.floats(-5, 5))
def test_only_differences_of_scores_count(loss: Loss, ranked: Ranked, shift: float) -> None:
    moved = [score + shift for score in ranked[0]], ranked[1]

    torch.testing.assert_close(loss(*one(moved)), loss(*one(ranked)), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("loss", LOSSES)
@given(st.lists(ranked_lists(), min_size=1, max_size=4))
def test_lists_of_different_lengths_side_by_side_are_the_lists_one_by_one(loss: Loss, ranked: list[Ranked]) -> None:
    scores_NL = torch.nn.utils.rnn.pad_sequence([one(a_list)[0][0] for a_list in ranked], batch_first=True)
    ranks_NL = torch.nn.utils.rnn.pad_sequence([one(a_list)[1][0] for a_list in ranked], batch_first=True)
    scores_NL.requires_grad_()

    together = loss(scores_NL, ranks_NL)
    torch.autograd.backward(together.sum())

    torch.testing.assert_close(together, torch.cat([loss(*one(a_list)) for a_list in ranked]))
    assert scores_NL.grad is not None and bool(scores_NL.grad.isfinite().all())
    assert not scores_NL.grad[ranks_NL == ranking_losses.PADDING].any()
    for name, values in ranking_losses.agreement(scores_NL, ranks_NL).items():
        torch.testing.assert_close(
            values, torch.cat([ranking_losses.agreement(*one(a_list))[name] for a_list in ranked])
        )


@pytest.mark.parametrize("size", [2, 3, 8])
def test_an_undecided_list_costs_the_mean_logarithm_of_what_there_is_to_choose_from(size: int) -> None:
    cost = ranking_losses.plackett_luce(*one(([0.0] * size, list(range(1, size + 1)))), temperature=TEMPERATURE)

    assert float(cost) == pytest.approx(sum(math.log(left) for left in range(2, size + 1)) / (size - 1))
    assert math.log(2) <= float(cost) + 1e-12 and float(cost) <= math.log(size) + 1e-12


def test_the_mean_of_the_best_takes_all_that_are_tied_at_the_top_and_no_padding() -> None:
    values_NL = torch.tensor([[1.0, 3.0, 9.0], [5.0, 7.0, 0.0]])
    ranks_NL = torch.tensor([[1, 1, 2], [2, 3, 0]])

    assert ranking_losses.mean_of_best(values_NL, ranks_NL).tolist() == [2.0, 5.0]
