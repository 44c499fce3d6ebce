"""Rating by a listener: a program that hears tunes and likes what it wishes for. No torch, no person."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import soundfile

from services.cli.clips import Clip
from services.cli.counting import Counting
from services.cli.rating import Given, Ratings
from trainer_node.data.refusals import AudioRefused
from trainer_node.tunes.listener import Heard, listen
from trainer_node.tunes.rater import DISLIKED, LIKED, UNSURE, Rater
from tunesmith.client.client import Client
from tunesmith.client.transfer import download_blob

BATCH_CLIPS = 100


@dataclass(frozen=True)
class ByListener:
    """A rater that listens to each clip as it is stored, at its own sampling rate."""

    rater: Rater
    name: str = "listener"

    def rate(self, clips: Sequence[Clip], ratings: Ratings, *, before: int) -> None:
        """Rate all clips, and store a batch at a time. Raises AudioRefused for one that is no sound."""
        counting = Counting("listening to", "clip")
        for start in range(0, len(clips), BATCH_CLIPS):
            rated = []
            for number, clip in enumerate(clips[start : start + BATCH_CLIPS], start + 1):
                counting(number, len(clips))
                rated.append((clip, self.rater.rate(_heard(ratings.client, clip), clip.digest)))
            ratings.add(*rated)

    def words(self, given: Given) -> str:
        """`128 liked, 108 disliked, 4 unclear`."""
        return f"{given[LIKED]} liked, {given[DISLIKED]} disliked, {given[UNSURE]} unclear"


def _heard(client: Client, clip: Clip) -> Heard:
    with tempfile.TemporaryDirectory() as folder:
        path = download_blob(client, clip.digest, Path(folder) / "clip.wav")
        try:
            wave_NC, rate_hz = soundfile.read(path, always_2d=True)
        except soundfile.SoundFileError as error:
            what = f"the clip of {clip.prompt!r} with seed {clip.seed} of {clip.run_id} is no sound ({error})"
            raise AudioRefused(f"{what}; leave this run out, and generate its clips again") from error
    return listen(wave_NC.mean(axis=1), rate_hz)
