"""What makes training fast changes nothing that is learned, and is the same every time."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from tests.tinylm.tiny import model, tokens
from trainer_node.engines.tinylm import speed
from trainer_node.engines.tinylm.pretrain import gradients
from trainer_node.engines.tinylm.speed import Arithmetic, MaskPool, Sharded, choose


def step(arithmetic: Arithmetic, *, dropout: float = 0.0, number: int = 0) -> tuple[float, list[Tensor]]:
    """Loss and gradients of one batch of five windows."""
    transformer = model(dropout=dropout)
    with Sharded(transformer, arithmetic, gradients, seed=1) as sharded:
        loss = sharded.step(tokens(5, 16), tokens(5, 16, seed=1), step=number)
    return loss, [parameter.grad for parameter in transformer.parameters() if parameter.grad is not None]


@pytest.mark.parametrize("shards", [2, 3, 5])
def test_shards_add_up_to_the_whole_batch(shards: int) -> None:
    loss, whole = step(Arithmetic(bf16=False, shards=1))

    sharded_loss, sharded = step(Arithmetic(bf16=False, shards=shards))

    assert sharded_loss == pytest.approx(loss, rel=1e-6)
    assert len(sharded) == len(whole) > 20
    assert all(torch.allclose(a, b, atol=1e-6) for a, b in zip(whole, sharded, strict=True))


def test_a_step_equals_autograds_on_the_plain_model() -> None:
    transformer = model(dropout=0.0)
    logps_BTV = transformer(tokens(5, 16))
    F.nll_loss(logps_BTV.flatten(0, 1), tokens(5, 16, seed=1).flatten()).backward()

    _, mine = step(Arithmetic(bf16=False, shards=2))

    expected = [parameter.grad for parameter in transformer.parameters()]
    assert all(torch.allclose(a, b, atol=1e-6) for a, b in zip(expected, mine, strict=True))


def test_the_bf16_replica_finds_the_same_direction() -> None:
    loss, exact = step(Arithmetic(bf16=False, shards=2))

    bf16_loss, rounded = step(Arithmetic(bf16=True, shards=2))

    assert bf16_loss == pytest.approx(loss, rel=0.005)
    assert all(gradient.dtype == torch.float32 for gradient in rounded)
    together = [torch.cat([gradient.flatten() for gradient in some]) for some in (exact, rounded)]
    assert F.cosine_similarity(*together, dim=0) > 0.999


@pytest.mark.parametrize("bf16", [False, True])
def test_the_same_step_comes_to_the_same_bits(bf16: bool) -> None:
    arithmetic = Arithmetic(bf16=bf16, shards=3)

    (loss, one), (again, other) = (step(arithmetic, dropout=0.2, number=7) for _ in range(2))

    assert loss == again
    assert all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


def test_dropout_drops_its_share_and_keeps_the_mean() -> None:
    drop = MaskPool(0.2, seed=0, dtype=torch.float32).masks(step=0, shard=0)

    dropped = drop(torch.ones(100, 1000))

    assert (dropped == 0).float().mean().item() == pytest.approx(0.2, abs=0.01)
    assert dropped.mean().item() == pytest.approx(1, abs=0.01)


def test_every_call_step_and_shard_gets_another_mask_and_the_same_one_again() -> None:
    pool = MaskPool(0.5, seed=0, dtype=torch.float32)
    one, again = pool.masks(step=3, shard=1), pool.masks(step=3, shard=1)
    x = torch.ones(4, 50)

    first, second = one(x), one(x)

    assert torch.equal(again(x), first)
    assert not torch.equal(first, second)
    assert not torch.equal(pool.masks(step=4, shard=1)(x), first)
    assert not torch.equal(pool.masks(step=3, shard=0)(x), first)


def test_a_tensor_larger_than_the_pool_is_dropped_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(speed, "POOL_BITS", 1000)

    dropped = MaskPool(0.5, seed=0, dtype=torch.float32).masks(step=0, shard=0)(torch.ones(50, 50))

    assert (dropped == 0).float().mean().item() == pytest.approx(0.5, abs=0.1)


def test_no_dropout_needs_no_pool() -> None:
    x = torch.ones(3)

    assert MaskPool(0.0, seed=0, dtype=torch.float32).masks(step=0, shard=0)(x) is x


@pytest.mark.parametrize(("fp32_s", "bf16_s", "bf16"), [(0.1, 0.3, False), (0.1, 0.099, False), (0.3, 0.1, True)])
def test_a_processor_without_bf16_gets_what_is_clearly_faster(fp32_s: float, bf16_s: float, bf16: bool) -> None:
    taken_s = {False: fp32_s, True: bf16_s}

    chosen, why = choose(
        model(), gradients, (tokens(4, 16), tokens(4, 16)), precision="auto", shards=2,
        native=lambda: False, trial_s=lambda _model, _gradients, arithmetic, _trial: taken_s[arithmetic.bf16],
    )  # fmt: skip

    assert chosen == Arithmetic(bf16=bf16, shards=2)
    assert why == (
        f"the processor has no bf16, and a step takes {1000 * fp32_s:.0f} ms in fp32, {1000 * bf16_s:.0f} ms in bf16"
    )


def test_measuring_takes_real_steps_and_leaves_the_model_as_it_was() -> None:
    transformer, before = model(), model()

    _, why = choose(
        transformer, gradients, (tokens(2, 8), tokens(2, 8)), precision="auto", shards=1, native=lambda: False
    )

    assert "ms in fp32" in why
    assert all(torch.equal(a, b) for a, b in zip(transformer.parameters(), before.parameters(), strict=True))
    assert all(parameter.grad is None for parameter in transformer.parameters())


def test_a_processor_with_bf16_and_a_wish_are_not_measured() -> None:
    def measure(*_: object) -> float:
        raise AssertionError("measured")

    trial = (tokens(4, 16), tokens(4, 16))
    native, _ = choose(model(), gradients, trial, precision="auto", shards=9, native=lambda: True, trial_s=measure)
    asked, _ = choose(model(), gradients, trial, precision="fp32", shards=1, native=lambda: True, trial_s=measure)

    assert native == Arithmetic(bf16=True, shards=4)  # no more shards than there are windows
    assert asked == Arithmetic(bf16=False, shards=1)


def test_the_thread_count_comes_back() -> None:
    before = torch.get_num_threads()

    with speed.one_thread_each():
        inside = torch.get_num_threads()

    assert inside == 1
    assert torch.get_num_threads() == before
