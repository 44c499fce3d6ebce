"""What is played for a wish: every clip another one, and enough of them."""

from __future__ import annotations

import re

import click
import pytest

from services.cli.ears import Listener, Scorer, clips_each
from trainer_node.tunes.listener import Heard
from trainer_node.tunes.world import VALUES
from tunesmith.errors import InvalidField

FOUR = {"register": "low", "tempo": "fast", "mode": "major", "timbre": "saw"}


@pytest.mark.parametrize(
    ("wish", "clips"), [({"mode": "major"}, 96), ({"mode": "major"}, 500), (FOUR, 96), (FOUR, 500)]
)
def test_no_prompt_is_asked_twice_and_there_are_clips_enough_and_not_many_more(
    wish: dict[str, str], clips: int
) -> None:
    ears = Listener.asking(wish, clips=clips, seed=0)

    assert len(set(ears.prompts)) == len(ears.prompts) <= 1000
    opens = [question for question in ears.questions if question.leaves_open(wish)]
    assert len(opens) == sum(question.opposes(wish) for question in ears.questions) == len(ears.questions) / 2
    assert clips <= len(opens) * ears.clips_per_prompt < clips + ears.clips_per_prompt
    assert ears.clips_per_prompt <= 64


def test_the_same_seed_asks_the_same_and_another_one_something_else() -> None:
    first, again, other = (Listener.asking({"mode": "major"}, clips=8, seed=seed).prompts for seed in (1, 1, 2))

    assert first == again != other


def test_open_questions_ask_nothing_of_the_wish_and_opposite_ones_the_contrary() -> None:
    ears = Listener.asking({"timbre": "saw"}, clips=24, seed=3)

    asked = [question.asked.get("timbre") for question in ears.questions]
    assert asked[:24] == [None] * 24
    assert set(asked[24:]) == set(VALUES["timbre"]) - {"saw"}


def test_prompts_of_ones_own_ask_for_what_their_words_say() -> None:
    prompts = ["a tune", "slow sad tune", "Fast flute like tune", "a tune"]

    own = Listener.hearing({"mode": "major"}, prompts, clips_per_prompt=3)

    assert (own.prompts, own.clips_per_prompt) == (prompts, 3)
    assert [question.asked for question in own.questions] == [
        {},
        {"tempo": "slow", "mode": "minor"},
        {"tempo": "fast", "timbre": "sine"},
        {},
    ]


def test_answers_are_compared_by_what_their_prompts_ask_in_whatever_order_they_come() -> None:
    prompts = ["slow sad tune", "slow tune", "fast sad tune", "fast tune"]
    major, minor = (Heard(mode=mode, tempo="slow", in_scale=1) for mode in ("major", "minor"))

    own = Listener.hearing({"mode": "major"}, prompts, clips_per_prompt=1)
    found = {one.name: one for one in own.compare([minor] * 4, [minor, major, major, minor])}

    shares = {name: (one.before.value, one.after.value) for name, one in found.items()}
    assert shares == {
        "wished share": (0, 0.5),
        "others obeyed": (0.5, 0.5),
        "opposite obeyed": (1, 0.5),
        "in scale": (1, 1),
    }


@pytest.mark.parametrize(
    ("prompts", "said"),
    [
        (["a tune", "happy high tune", "sad tune"], "2 of 3 neither leave mode, tempo open nor ask for the opposite, "),
        (["a tune", "happy high tune"], "first 'happy high tune'; take other prompts, or another wish"),
        (["slow sad tune"], "0 leave mode, tempo open; take 2"),
        (["a tune"], "1 leave mode, tempo open"),
        (["a tune", "high tune", "slow sad tune"], "one asks for the opposite; take 2, none, or more clips"),
        (["a tune", "happy, then sad tune"], "'happy, then sad tune' asks for major and for minor; ask for one mode"),
    ],
)
def test_prompts_that_cannot_show_what_was_learnt_are_refused(prompts: list[str], said: str) -> None:
    with pytest.raises(InvalidField, match=re.escape(said)):
        Listener.hearing({"mode": "major", "tempo": "fast"}, prompts, clips_per_prompt=1)

    assert Scorer.of("math:sqrt", ["a tune"], clips_per_prompt=2).prompts == ["a tune"]
    with pytest.raises(InvalidField, match="there is one clip to hear; take 2"):
        Scorer.of("math:sqrt", ["a tune"], clips_per_prompt=1)


def test_prompts_that_a_training_has_seen_are_asked_only_where_there_are_no_others() -> None:
    every = set(Listener.asking({"mode": "major"}, clips=20, seed=0).prompts)
    others = Listener.asking({"mode": "major"}, clips=20, seed=0, without=every)

    little = {"mode": "major", "register": "high", "tempo": "slow", "timbre": "saw"}
    all_there_are = set(Listener.asking(little, clips=500, seed=0).prompts)
    again = Listener.asking(little, clips=10, seed=0, without=all_there_are)

    assert every.isdisjoint(others.prompts[:20])
    assert again.prompts


@pytest.mark.parametrize(("prompts", "clips", "said"), [(1, 96, "give 2 different ones"), (1001, 96, "at most 1,000")])
def test_more_than_a_run_plays_is_told_before(prompts: int, clips: int, said: str) -> None:
    with pytest.raises(click.UsageError, match=said):
        clips_each(prompts, clips)
