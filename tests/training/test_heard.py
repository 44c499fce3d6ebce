"""An adapter does what the raters asked for, and can be heard to do so; with ratings that mean nothing it does not.

Every way to train, over three seeds. Each seed is heard on a set of 96 prompts of its own, which no training has seen,
beside the base model on the same prompts with the same seeds. A rise is held to its bar with every seed; what is to
stay where it was is held to it in the mean of the three, since one share of 96 clips moves by five points by itself.
What was measured stands in docs/explanation/heard.md.
"""

from __future__ import annotations

import statistics

import pytest

from tests.training.heard import KINDS, Loop, Result, Shares, Task

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3000)]

WISHES = {"mode": {"mode": "major"}, "register": {"register": "high"}}
LEAST_RISE = {"mode": 0.12, "register": 0.35}
ASKED = {1: 777, 2: 778, 3: 779}  # prompts by training seed
PLACEBO_WITHIN, OTHERS_FALL_AT_MOST, TRAINING_CPU_S = 0.10, 0.10, 60

Changes = list[tuple[Shares, Shares]]  # before and after, by training seed


@pytest.fixture(scope="module")
def loop(tmp_path_factory: pytest.TempPathFactory) -> Loop:
    return Loop(tmp_path_factory.mktemp("heard"))


@pytest.fixture(scope="module")
def before(loop: Loop) -> dict[tuple[str, int], Shares]:
    """What is heard of the base model, by attribute and set of prompts."""
    return {
        (name, asked): loop.base_shares(wish, seed=asked) for name, wish in WISHES.items() for asked in ASKED.values()
    }


@pytest.fixture(scope="module")
def results(loop: Loop) -> list[Result]:
    """Every training of this file."""
    return loop.results(
        Task(kind=kind, wish=wish, seed=seed, asked_seed=asked, shuffled=shuffled)
        for kind in KINDS
        for wish in WISHES.values()
        for seed, asked in ASKED.items()
        for shuffled in (False, True)
    )


def changes(
    before: dict[tuple[str, int], Shares], results: list[Result], kind: str, attribute: str, *, shuffled: bool = False
) -> Changes:
    wanted = (kind, WISHES[attribute], shuffled)
    return [
        (before[attribute, one.task.asked_seed], one.shares[0])
        for one in results
        if (one.task.kind, dict(one.task.wish), one.task.shuffled) == wanted
    ]


@pytest.mark.parametrize("attribute", list(WISHES))
@pytest.mark.parametrize("kind", KINDS)
def test_what_was_wished_for_is_played_more_often(
    before: dict[tuple[str, int], Shares], results: list[Result], kind: str, attribute: str
) -> None:
    rises = [after.wished - base.wished for base, after in changes(before, results, kind, attribute)]

    assert len(rises) == len(ASKED)
    assert min(rises) >= LEAST_RISE[attribute]


@pytest.mark.parametrize("attribute", list(WISHES))
@pytest.mark.parametrize("kind", KINDS)
def test_what_prompts_ask_for_beside_the_wish_is_still_played(
    before: dict[tuple[str, int], Shares], results: list[Result], kind: str, attribute: str
) -> None:
    falls = [base.others - after.others for base, after in changes(before, results, kind, attribute)]

    assert statistics.mean(falls) <= OTHERS_FALL_AT_MOST


@pytest.mark.parametrize("attribute", list(WISHES))
@pytest.mark.parametrize("kind", KINDS)
def test_ratings_that_mean_nothing_change_nothing(
    before: dict[tuple[str, int], Shares], results: list[Result], kind: str, attribute: str
) -> None:
    moved = [after.wished - base.wished for base, after in changes(before, results, kind, attribute, shuffled=True)]

    assert len(moved) == len(ASKED)
    assert abs(statistics.mean(moved)) <= PLACEBO_WITHIN


def test_a_training_takes_less_than_a_minute_of_one_core(results: list[Result]) -> None:
    assert max(result.cpu_s for result in results) <= TRAINING_CPU_S
