"""What is played for a wish: every clip another one, and enough of them."""

from __future__ import annotations

import click
import pytest

from services.cli.ears import Listener
from trainer_node.tunes.world import VALUES

FOUR = {"register": "low", "tempo": "fast", "mode": "major", "timbre": "saw"}


@pytest.mark.parametrize(
    ("wish", "clips"), [({"mode": "major"}, 96), ({"mode": "major"}, 500), (FOUR, 96), (FOUR, 500)]
)
def test_no_prompt_is_asked_twice_and_there_are_clips_enough_and_not_many_more(
    wish: dict[str, str], clips: int
) -> None:
    ears = Listener.of(wish, clips=clips, seed=0)

    assert len(set(ears.prompts)) == len(ears.prompts) <= 1000
    assert len(ears.opens) == len(ears.opposites)
    assert clips <= len(ears.opens) * ears.clips_per_prompt < clips + ears.clips_per_prompt
    assert ears.clips_per_prompt <= 64


def test_the_same_seed_asks_the_same_and_another_one_something_else() -> None:
    first, again, other = (Listener.of({"mode": "major"}, clips=8, seed=seed).prompts for seed in (1, 1, 2))

    assert first == again != other


def test_open_questions_ask_nothing_of_the_wish_and_opposite_ones_the_contrary() -> None:
    ears = Listener.of({"timbre": "saw"}, clips=24, seed=3)

    assert not any("timbre" in question.asked for question in ears.opens)
    assert {question.asked["timbre"] for question in ears.opposites} == set(VALUES["timbre"]) - {"saw"}


def test_prompts_of_ones_own_take_the_place_of_questions() -> None:
    own = Listener.of({"mode": "major"}, clips=5, seed=0, prompts=["a tune", "another", "a tune"])

    assert (own.prompts, own.clips_per_prompt) == (["a tune", "another"], 3)


def test_prompts_that_a_training_has_seen_are_asked_only_where_there_are_no_others() -> None:
    every = set(Listener.of({"mode": "major"}, clips=20, seed=0).prompts)
    others = Listener.of({"mode": "major"}, clips=20, seed=0, without=every)

    little = {"mode": "major", "register": "high", "tempo": "slow", "timbre": "saw"}
    all_there_are = set(Listener.of(little, clips=500, seed=0).prompts)
    again = Listener.of(little, clips=10, seed=0, without=all_there_are)

    assert every.isdisjoint(question.prompt for question in others.opens)
    assert again.opens


@pytest.mark.parametrize(("prompts", "clips", "said"), [(1, 96, "give 2 different ones"), (1001, 96, "at most 1,000")])
def test_more_than_a_run_plays_is_told_before(prompts: int, clips: int, said: str) -> None:
    with pytest.raises(click.UsageError, match=said):
        Listener.of({"mode": "major"}, clips=clips, seed=0, prompts=[f"tune {n}" for n in range(prompts)])
