"""Rating by a listener: a program that hears tunes and likes what it wishes for. No torch, no person."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from services.cli.clip_audio import ClipUnusable, read_wave
from services.cli.clips import Clip
from services.cli.counting import Counting
from services.cli.rating import Given, Ratings
from trainer_node.tunes.listener import Heard, listen
from trainer_node.tunes.rater import DISLIKED, LIKED, UNSURE, Rater
from tunesmith.client.client import Client

BATCH_CLIPS = 100


@dataclass(frozen=True)
class ByListener:
    """A rater that listens to each clip as it is stored, at its own sampling rate."""

    rater: Rater
    name: str = "listener"

    def rate(self, clips: Sequence[Clip], ratings: Ratings, *, before: int) -> None:
        """Rate all clips, and store a batch at a time. One that is no sound is told of and left out."""
        counting = Counting("listening to", "clip")
        for start in range(0, len(clips), BATCH_CLIPS):
            rated: list[tuple[Clip, float]] = []
            try:
                for number, clip in enumerate(clips[start : start + BATCH_CLIPS], start + 1):
                    counting(number, len(clips))
                    try:
                        rated.append((clip, self.rater.rate(_heard(ratings.client, clip), clip.digest)))
                    except ClipUnusable as error:
                        ratings.skipped += 1
                        ratings.out.note(error.message)
            finally:  # whatever ends it, what was heard is kept
                if rated:
                    ratings.add(*rated)

    def words(self, given: Given) -> str:
        """`128 liked, 108 disliked, 4 unclear`."""
        return f"{given[LIKED]} liked, {given[DISLIKED]} disliked, {given[UNSURE]} unclear"


def _heard(client: Client, clip: Clip) -> Heard:
    what = f"the clip of {clip.prompt!r} with seed {clip.seed} of {clip.run_id}"
    return listen(*read_wave(client, clip.digest, what=what))
