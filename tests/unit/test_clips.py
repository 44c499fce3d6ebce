"""Which clips wait for a rating, and in what order they are heard."""

from __future__ import annotations

import random
from itertools import groupby

import pytest

from services.cli.clips import Clip, clips_of, in_order, unrated
from tunesmith.v1 import blob_pb2, dataset_pb2, run_pb2

RUN = "run_1"


def preview(digest: str = "a", **fields: object) -> run_pb2.Preview:
    file = blob_pb2.File(path="clip.wav", digest=digest, size_bytes=9)
    return run_pb2.Preview(**{"run_id": RUN, "attempt": 1, "prompt": "slow piano", "seed": 7, "file": file, **fields})


def clips(prompts: str, each: int) -> list[Clip]:
    return [Clip(prompt, f"{prompt}{number}", RUN, number) for prompt in prompts for number in range(each)]


def test_of_what_several_attempts_have_made_the_last_one_counts():
    listed = [preview("b", attempt=2), preview("a", attempt=1), preview("c", attempt=1, seed=8)]

    assert [(clip.digest, clip.seed) for clip in clips_of(listed)] == [("b", 7), ("c", 8)]


def test_every_step_seed_prompt_and_run_is_a_clip_of_its_own():
    listed = [
        preview("a"),
        preview("b", step=10),
        preview("c", seed=8),
        preview("d", prompt_index=1),
        preview("e", run_id="run_2"),
    ]

    assert [clip.digest for clip in clips_of(listed)] == list("abcde")


def test_the_same_sound_for_the_same_prompt_is_one_clip_and_a_text_is_none():
    listed = [preview("a"), preview("a", step=10), preview("a", step=20, prompt="fast piano"), preview(text="Once")]
    listed[3].ClearField("file")

    assert [clip.key for clip in clips_of(listed)] == [("slow piano", "a"), ("fast piano", "a")]


def test_a_clip_is_rated_where_its_prompt_and_its_sound_are():
    one, same_prompt, same_sound = Clip("a", "1", RUN, 7), Clip("a", "2", RUN, 8), Clip("b", "1", RUN, 7)

    left = unrated([same_sound, one, same_prompt], [one.sample(5, rater="ann")])

    assert left == [same_sound, same_prompt]


def test_a_rated_clip_says_who_rated_it_and_where_it_is_from():
    sample = Clip("a", "1" * 64, RUN, 7).sample(4, rater="ann")

    assert sample == dataset_pb2.Sample(
        prompt="a", audio_digest="1" * 64, rating=4, tags={"rater": "ann", "run": RUN, "seed": "7"}
    )


@pytest.mark.parametrize("seed", range(5))
def test_clips_of_one_prompt_are_heard_together(seed):
    ordered = in_order(clips("abcd", 4), seed=seed)

    assert len([prompt for prompt, _ in groupby(ordered, key=lambda clip: clip.prompt)]) == 4
    assert sorted(clip.digest for clip in ordered) == sorted(clip.digest for clip in clips("abcd", 4))


def test_the_order_is_that_of_the_seed_however_the_clips_were_listed():
    listed = clips("abcd", 4)
    shuffled = random.Random(1).sample(listed, len(listed))

    first = in_order(listed, seed=0)

    assert first == in_order(shuffled, seed=0)
    assert first != in_order(listed, seed=1)
    assert [clip.prompt for clip in first] != sorted(clip.prompt for clip in first)
    places = {tuple(int(clip.digest[1]) for clip in group) for _, group in groupby(first, lambda clip: clip.prompt)}
    assert len(places) > 1  # no place tells the model that is listed there
