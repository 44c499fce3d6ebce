"""What cannot be ranked is refused before anything is loaded or trained, with what to do about it."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from tests.training import preference_studio
from tests.training.studio import Blobs, Studio
from trainer_node.engines.registry import engine_for
from trainer_node.errors import DataInvalid
from trainer_node.training import TrainingClip, TrainingComparison, TrainingJob
from tunesmith.errors import InvalidField
from tunesmith.v1 import trainer_pb2

ALL: dict[str, Any] = {"validation": {"validation_fraction": 0}, "training": {"epochs": 1}}


def refused(studio: Studio, compared: list[TrainingComparison], **changes: Any) -> str:
    with pytest.raises(DataInvalid) as refusal:
        preference_studio.train(studio, "ranking", compared, **{**ALL, **changes})
    return refusal.value.message


def ranked(one: TrainingComparison, *ranks: int) -> TrainingComparison:
    clips = zip(one.clips[: len(ranks)], ranks, strict=True)
    return replace(one, clips=tuple(replace(clip, rank=rank) for clip, rank in clips))


def test_no_lists_are_refused(studio: Studio) -> None:
    assert "the data set has no ranked lists; rate or compare clips" in refused(studio, [])


def test_rated_clips_are_no_lists(studio: Studio) -> None:
    job = TrainingJob(
        job=trainer_pb2.Job(spec=preference_studio.spec("ranking")),
        samples=studio.samples(3),
        models_dir=studio.models_dir,
        cache_dir=studio.cache_dir,
        output_dir=studio.folder / "output",
    )

    with pytest.raises(DataInvalid, match="no ranked lists"):
        engine_for("ranking")(job, studio.telemetry, Blobs(studio.folder / "blobs"), lambda: False)


@pytest.mark.parametrize(
    ("ranks", "why"),
    [
        pytest.param([1], "has 1 clip, so there is nothing to rank; add clips of the same prompt", id="a group of one"),
        pytest.param([1, 1, 1], "is tied, so nothing is preferred; take it out", id="all tied"),
        pytest.param([2, 1, 3], "are not best first; freeze a new version", id="not best first"),
    ],
)
def test_a_list_without_an_order_is_refused_by_its_place_and_prompt(studio: Studio, ranks: list[int], why: str) -> None:
    fine, bad = preference_studio.comparisons(studio, 2, size=3)

    message = refused(studio, [fine, ranked(bad, *ranks)])

    assert f"comparison 2 ({bad.prompt!r})" in message
    assert why in message


def test_a_clip_twice_in_a_list_is_refused(studio: Studio) -> None:
    [one] = preference_studio.comparisons(studio, 1, size=2)
    twice = replace(one, clips=(*one.clips, replace(one.clips[0], rank=3)))

    assert "has a clip twice; take one of them out" in refused(studio, [twice])


def sound(path: Path, seconds: float, *, rank: int, ends_in: float = 0.4) -> TrainingClip:
    """A tone that goes quiet in its last 0.2 s, to this amplitude."""
    time_n = np.arange(round(seconds * 16000)) / 16000
    loud_n = np.where(time_n < seconds - 0.2, 0.4, ends_in)
    soundfile.write(path, loud_n * np.sin(2 * np.pi * 330 * time_n), 16000, subtype="PCM_16")
    return TrainingClip(audio_path=path, audio_digest=hashlib.sha256(path.read_bytes()).hexdigest(), rank=rank)


def test_clips_of_different_rank_that_sound_the_same_are_refused_by_prompt_and_audio(studio: Studio) -> None:
    wav = sound(studio.folder / "one.wav", 0.5, rank=1)
    flac = sound(studio.folder / "same.flac", 0.5, rank=3)  # other bytes, the same samples
    between = sound(studio.folder / "other.wav", 0.4, rank=2)
    compared = TrainingComparison(prompt="low sine drone", clips=(wav, between, flac))

    message = refused(studio, [compared, compared])

    assert message == (
        "two clips of the prompt 'low sine drone' have different ranks and the same codes (audio "
        f"{wav.audio_digest[:12]}… and {flac.audio_digest[:12]}…), so the model cannot tell them apart; take one of "
        "them out of the data set"
    )


def test_clips_that_differ_only_after_the_cut_are_refused_with_the_setting_to_raise(studio: Studio) -> None:
    clips = [sound(studio.folder / f"{rank}.wav", 0.6, rank=rank, ends_in=0.4 / rank) for rank in (1, 2)]
    compared = TrainingComparison(prompt="low sine drone", clips=tuple(clips))

    message = refused(studio, [compared], training={"epochs": 1, "max_clip_s": 0.3})

    assert message.endswith("take one of them out of the data set, or raise max_clip_s from 0.3")


def test_tied_clips_may_sound_the_same_and_a_pair_is_a_list_of_two(studio: Studio) -> None:
    tied = [sound(studio.folder / name, 0.5, rank=1) for name in ("one.wav", "same.flac")]
    worse = sound(studio.folder / "worse.wav", 0.4, rank=2)
    compared = [
        TrainingComparison(prompt="low sine drone", clips=(*tied, worse)),
        TrainingComparison(prompt="calm ambient pad", clips=(tied[0], worse)),
    ]

    done = preference_studio.train(studio, "ranking", compared, **ALL)

    assert done.telemetry.events[0].started.training_samples == 2


@pytest.mark.parametrize(
    ("setting", "value"),
    [("margin", 0), ("margin", 101), ("temperature", -1), ("temperature", 101), ("sft_weight", -1)],
)
def test_a_setting_out_of_range_is_refused_by_name(setting: str, value: float) -> None:
    loss = "RANKING_LOSS_PLACKETT_LUCE" if setting == "temperature" else "RANKING_LOSS_MARGIN"

    with pytest.raises(InvalidField) as refusal:
        preference_studio.spec("ranking", loss=loss, **{setting: value})

    assert [problem.path for problem in refusal.value.fields] == [f"spec.ranking.{setting}"]
