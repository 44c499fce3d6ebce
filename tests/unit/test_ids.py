"""Ids."""

from __future__ import annotations

import re
import time

import pytest

from control_plane.ids import new_id, new_ids


def test_an_id_has_the_shape_that_the_contract_asks_for():
    assert re.fullmatch(r"run_[0-9A-HJKMNP-TV-Z]{26}", new_id("run"))


def test_later_ids_sort_behind_earlier_ones():
    first = new_id("run")
    time.sleep(0.002)

    assert first < new_id("run")


def test_an_id_carries_the_millisecond_it_was_made():
    before = time.time_ns() // 1_000_000
    digits = new_id("run").removeprefix("run_")[:10]
    after = time.time_ns() // 1_000_000

    made = 0
    for digit in digits:
        made = made * 32 + "0123456789ABCDEFGHJKMNPQRSTVWXYZ".index(digit)
    assert before <= made <= after


def test_ids_made_together_ascend_and_differ():
    ids = new_ids("smp", 1000)

    assert ids == sorted(set(ids))


def test_an_unknown_prefix_is_a_bug():
    with pytest.raises(ValueError, match="no such id prefix"):
        new_id("cat")
