"""Batches hold every token in its place, and an epoch follows from the seed and its number."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from trainer_node.engines.tinylm.windows import Windows, as_tensor, in_order
from trainer_node.errors import DataInvalid


def windows(length: int = 100, *, seq: int = 8, batch_size: int = 3, seed: int = 1) -> Windows:
    """Over a text in which each token is its own place."""
    return Windows(torch.arange(length), seq=seq, batch_size=batch_size, seed=seed)


def test_a_target_is_the_token_after() -> None:
    inputs_BT, targets_BT = windows().epoch(0).batch(0)

    assert inputs_BT.shape == targets_BT.shape == (3, 8)
    assert torch.equal(targets_BT, inputs_BT + 1)


def test_no_token_is_trained_on_twice_in_an_epoch() -> None:
    stream = windows()
    epoch = stream.epoch(3)

    seen = torch.cat([epoch.batch(position)[1].flatten() for position in range(stream.steps_per_epoch)])

    assert len(seen.unique()) == len(seen) == stream.steps_per_epoch * 3 * 8


def test_epochs_cut_and_order_the_text_anew() -> None:
    stream = windows()

    starts = [stream.epoch(number).starts_W for number in range(6)]

    assert len({tuple(one.tolist()) for one in starts}) == 6
    assert len({int(one.min()) for one in starts}) > 1


@pytest.mark.parametrize("number", range(20))
def test_every_offset_gives_an_epoch_of_the_same_length(number: int) -> None:
    stream = windows(length=3 * 8 + 5)  # as little as makes the last window fall off the end if offsets were careless

    last = stream.epoch(number).starts_W.max() + stream.seq

    assert int(last) < 3 * 8 + 5
    assert len(stream.epoch(number).starts_W) == stream.windows


def test_the_seed_and_the_number_decide_an_epoch() -> None:
    assert torch.equal(windows(seed=4).epoch(2).starts_W, windows(seed=4).epoch(2).starts_W)
    assert not torch.equal(windows(seed=4).epoch(2).starts_W, windows(seed=5).epoch(2).starts_W)


def test_a_text_with_fewer_windows_than_a_batch_makes_one_step_of_all() -> None:
    stream = windows(length=30, batch_size=32)

    assert (stream.batch_size, stream.steps_per_epoch) == (2, 1)


def test_too_little_text_is_refused_with_the_length_that_would_do() -> None:
    with pytest.raises(DataInvalid) as refused:
        windows(length=12)

    assert refused.value.message == (
        "the training text has 12 tokens, too few for a window of 8; add text, or reduce max_seq_length from 8 to 6"
    )
    assert windows(length=12, seq=6).windows == 1


@pytest.mark.parametrize("length", [2, 8, 9, 10, 41, 100])
def test_measuring_asks_for_every_token_but_the_first_once(length: int) -> None:
    batches = list(in_order(torch.arange(length), seq=8, batch_size=3))

    targets = torch.cat([targets_BT.flatten() for _, targets_BT in batches])
    assert targets.tolist() == list(range(1, length))
    assert all(torch.equal(inputs_BT + 1, targets_BT) for inputs_BT, targets_BT in batches)


@pytest.mark.parametrize("length", [0, 1])
def test_there_is_nothing_to_measure_in_less_than_two_tokens(length: int) -> None:
    assert list(in_order(torch.arange(length), seq=8, batch_size=3)) == []


def test_a_token_of_another_vocabulary_is_refused() -> None:
    with pytest.raises(DataInvalid, match="the validation tokens hold the id 400, and the vocabulary ends at 299"):
        as_tensor(np.array([1, 400, 3], dtype=np.uint16), vocab_size=300, what="validation")
