"""What is played for a wish: every clip another one, and enough of them."""

from __future__ import annotations

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
