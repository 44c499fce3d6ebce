"""An adapter does what the raters asked for, and can be heard to do so; with ratings that mean nothing it does not.

The same bars hold for every way to train, over three seeds, on prompts that no training has seen. What was measured
with which seeds stands in docs/explanation/heard.md.
"""

from __future__ import annotations

from collections.abc import Iterable

import pytest

from tests.training.heard import KINDS, Loop, Result, Shares, Task

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3000)]

WISHES = {"mode": {"mode": "major"}, "register": {"register": "high"}}
LEAST_RISE = {"mode": 0.12, "register": 0.35}
SEEDS = (1, 2, 3)
PLACEBO_WITHIN, OTHERS_FALL_AT_MOST, TRAINING_CPU_S = 0.10, 0.10, 60


@pytest.fixture(scope="module")
def loop(tmp_path_factory: pytest.TempPathFactory) -> Loop:
    return Loop(tmp_path_factory.mktemp("heard"))


@pytest.fixture(scope="module")
def before(loop: Loop) -> dict[str, Shares]:
    """What is heard of the base model."""
    return {name: loop.base_shares(wish) for name, wish in WISHES.items()}


@pytest.fixture(scope="module")
def results(loop: Loop) -> list[Result]:
    """Every training of this file."""
    learnt = [Task(kind=kind, wish=wish, seed=seed) for kind in KINDS for wish in WISHES.values() for seed in SEEDS]
    placebo = [
        Task(kind=kind, wish=wish, seed=seed, shuffled=True)
        for kind in KINDS
        for wish in WISHES.values()
        for seed in SEEDS
    ]
    return loop.results([*learnt, *placebo])


def of(results: Iterable[Result], kind: str, attribute: str, *, shuffled: bool = False) -> list[Shares]:
    return [
        result.shares[0]
        for result in results
        if (result.task.kind, dict(result.task.wish), result.task.shuffled) == (kind, WISHES[attribute], shuffled)
    ]


@pytest.mark.parametrize("attribute", list(WISHES))
@pytest.mark.parametrize("kind", KINDS)
def test_what_was_wished_for_is_played_more_often(
    before: dict[str, Shares], results: list[Result], kind: str, attribute: str
) -> None:
    rises = [shares.wished - before[attribute].wished for shares in of(results, kind, attribute)]

    assert len(rises) == len(SEEDS)
    assert min(rises) >= LEAST_RISE[attribute]


@pytest.mark.parametrize("attribute", list(WISHES))
@pytest.mark.parametrize("kind", KINDS)
def test_what_prompts_ask_for_beside_the_wish_is_still_played(
    before: dict[str, Shares], results: list[Result], kind: str, attribute: str
) -> None:
    falls = [before[attribute].others - shares.others for shares in of(results, kind, attribute)]

    assert max(falls) <= OTHERS_FALL_AT_MOST


@pytest.mark.parametrize("attribute", list(WISHES))
@pytest.mark.parametrize("kind", KINDS)
def test_ratings_that_mean_nothing_change_nothing(
    before: dict[str, Shares], results: list[Result], kind: str, attribute: str
) -> None:
    moved = [shares.wished - before[attribute].wished for shares in of(results, kind, attribute, shuffled=True)]

    assert len(moved) == len(SEEDS)
    assert max(abs(share) for share in moved) <= PLACEBO_WITHIN


def test_a_training_takes_less_than_a_minute_of_one_core(results: list[Result]) -> None:
    assert max(result.cpu_s for result in results) <= TRAINING_CPU_S
