"""Both heads are exact distributions, and the fast loss is the plain one."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from trainer_node.engines.tinylm import heads
from trainer_node.engines.tinylm.heads import Head, PlainHead, TreeHead, fused_cross_entropy, ranks_by_frequency

D, VOCAB = 8, 60
CUTS = (10, 25, 40)


def head(kind: str) -> Head:
    """A head with weights large enough that its distribution is far from uniform."""
    generator = torch.Generator().manual_seed(0)
    ranks_V = torch.randperm(VOCAB, generator=generator)
    made = PlainHead(D, VOCAB) if kind == "plain" else TreeHead(D, VOCAB, ranks_V, CUTS)
    for parameter in made.parameters():
        torch.nn.init.normal_(parameter, 0, 1, generator=generator)
    return made


def positions(count: int, *, below: int = VOCAB) -> tuple[Tensor, Tensor]:
    """Hidden states that want a gradient, and targets."""
    generator = torch.Generator().manual_seed(1)
    hidden_ND = torch.randn(count, D, generator=generator).requires_grad_()
    return hidden_ND, torch.randint(below, (count,), generator=generator)


def grads(loss: Tensor, *of: Tensor) -> list[Tensor]:
    return list(torch.autograd.grad(loss, of))


@pytest.fixture(params=["one chunk", "chunks of 7 rows"])
def chunks(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """A tree's softmaxes of other sizes get chunks of other sizes."""
    if request.param != "one chunk":
        monkeypatch.setattr(heads, "CHUNK_LOGITS", 7 * VOCAB)


@pytest.mark.parametrize("kind", ["plain", "tree"])
def test_a_head_is_a_distribution_over_the_whole_vocabulary(kind: str) -> None:
    hidden_ND, _ = positions(20)

    logps_NV = head(kind).log_prob(hidden_ND)

    assert logps_NV.shape == (20, VOCAB)
    assert torch.allclose(logps_NV.exp().sum(-1), torch.ones(20), atol=1e-5)


@pytest.mark.parametrize("kind", ["plain", "tree"])
@pytest.mark.usefixtures("chunks")
def test_the_loss_is_minus_the_log_probability_of_what_came(kind: str) -> None:
    made = head(kind)
    hidden_ND, targets_N = positions(33)

    expected = -made.log_prob(hidden_ND)[torch.arange(33), targets_N].mean().item()

    assert made.loss(hidden_ND, targets_N, tokens=33).item() == pytest.approx(expected, rel=1e-5)
    assert made.total_loss(hidden_ND, targets_N) / 33 == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("kind", ["plain", "tree"])
@pytest.mark.usefixtures("chunks")
def test_the_fused_gradient_is_autograds(kind: str) -> None:
    made = head(kind)
    hidden_ND, targets_N = positions(33)
    wanted = [hidden_ND, *made.parameters()]

    fused = grads(made.loss(hidden_ND, targets_N, tokens=33), *wanted)
    plain = grads(-made.log_prob(hidden_ND)[torch.arange(33), targets_N].mean(), *wanted)

    for mine, autograds in zip(fused, plain, strict=True):
        assert torch.allclose(mine, autograds, atol=1e-6)


def test_the_fused_gradient_is_autograds_where_the_loss_is_scaled_again() -> None:
    hidden_ND, targets_N = positions(5)
    weight_CD = torch.randn(VOCAB, D, generator=torch.Generator().manual_seed(2)).requires_grad_()

    fused = grads(3 * fused_cross_entropy(hidden_ND, weight_CD, targets_N, scale=0.5), hidden_ND, weight_CD)
    plain = grads(1.5 * F.cross_entropy(hidden_ND @ weight_CD.T, targets_N, reduction="sum"), hidden_ND, weight_CD)

    assert all(torch.allclose(mine, autograds, atol=1e-5) for mine, autograds in zip(fused, plain, strict=True))


@pytest.mark.parametrize("kind", ["plain", "tree"])
@pytest.mark.usefixtures("chunks")
def test_in_bf16_loss_and_gradient_are_those_of_fp32_but_for_its_rounding(kind: str) -> None:
    exact, rounded = head(kind), head(kind).to(torch.bfloat16)
    hidden_ND, targets_N = positions(64)
    half_ND = hidden_ND.detach().to(torch.bfloat16).requires_grad_()

    loss = exact.loss(hidden_ND, targets_N, tokens=64)
    loss_bf16 = rounded.loss(half_ND, targets_N, tokens=64)
    pairs = zip(
        grads(loss, hidden_ND, *exact.parameters()), grads(loss_bf16, half_ND, *rounded.parameters()), strict=True
    )

    assert loss_bf16.dtype == torch.float32
    assert loss_bf16.item() == pytest.approx(loss.item(), rel=0.01)
    for fp32, bf16 in pairs:
        assert bf16.dtype == torch.bfloat16
        assert F.cosine_similarity(fp32.flatten(), bf16.float().flatten(), dim=0) > 0.999


def test_a_tree_multiplies_the_probability_of_the_cluster_by_that_within_it() -> None:
    made = head("tree")
    assert isinstance(made, TreeHead)
    hidden_ND, _ = positions(1)
    token = int((made.ranks_V == 27).nonzero())  # the third of the second cluster, which begins at 25

    root = torch.softmax(made.root(hidden_ND)[0], -1)
    within = torch.softmax(made.clusters[1](hidden_ND)[0], -1)

    assert made.log_prob(hidden_ND)[0, token].exp().item() == pytest.approx(
        (root[CUTS[0] + 1] * within[2]).item(), rel=1e-5
    )


def test_a_cluster_of_which_nothing_came_gets_a_gradient_of_zero() -> None:
    made = TreeHead(D, VOCAB, torch.arange(VOCAB), CUTS)
    hidden_ND, targets_N = positions(12, below=CUTS[0])

    of_clusters = grads(made.loss(hidden_ND, targets_N, tokens=12), *(layer.weight for layer in made.clusters))

    assert all(torch.equal(grad, torch.zeros_like(grad)) for grad in of_clusters)


def test_a_vocabulary_below_the_first_cut_is_one_softmax() -> None:
    made = TreeHead(D, 9, torch.arange(9), CUTS)
    hidden_ND, targets_N = positions(6, below=9)

    assert len(made.clusters) == 0
    assert made.loss(hidden_ND, targets_N, tokens=6).item() == pytest.approx(
        F.cross_entropy(made.root(hidden_ND), targets_N).item(), rel=1e-5
    )


def test_the_most_frequent_token_is_first_and_among_equals_the_lower_id() -> None:
    text = torch.tensor([5, 5, 5, 1, 1, 0])

    ranks_V = ranks_by_frequency(text, 7)

    assert ranks_V.tolist() == [2, 1, 3, 4, 5, 0, 6]


def test_a_loss_that_a_type_cannot_hold_is_not_finite() -> None:
    hidden_ND = torch.full((2, D), 1e4)
    weight_CD = torch.stack([torch.ones(D), -torch.ones(D)])

    loss = fused_cross_entropy(hidden_ND, weight_CD, torch.tensor([1, 1]), scale=1.0)

    assert not math.isfinite(loss.item())
