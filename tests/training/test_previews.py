"""Previews differ by the adapter alone, and by guidance; the training does not notice them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import soundfile

from tests.training import preference_studio
from tests.training.studio import Studio, Telemetry, Training
from trainer_node.engines.musicgen.family import BaseModel
from trainer_node.engines.musicgen.previews import CachedText, preview
from tunesmith.v1 import job_spec_pb2

PREVIEWS = {"preview_prompts": ["low sine drone", "calm ambient pad"], "preview_s": 0.5, "preview_every_epochs": 2}


def digests(done: Training) -> dict[tuple[int, int], str]:
    """Content by (step, prompt)."""
    return {(preview.step, preview.prompt_index): preview.file.digest for preview in done.previews()}


def test_previews_come_before_the_first_step_at_the_interval_and_at_the_end(studio: Studio) -> None:
    done = studio.train(studio.samples(10), training={"epochs": 5}, previews=PREVIEWS)

    assert [(preview.step, preview.prompt_index) for preview in done.previews()] == [
        (step, prompt) for step in (0, 4, 8, 10) for prompt in (0, 1)
    ]
    preview = done.previews()[-1]
    path = done.output_dir / "previews" / preview.file.path
    sound, rate_hz = soundfile.read(path)
    assert (preview.prompt, preview.seed, preview.duration_s) == ("calm ambient pad", 0, 0.5)
    assert (len(sound), rate_hz) == (8000, 16000)
    assert np.abs(sound).max() > 0
    assert f"(previews/{preview.file.path})" in (done.output_dir / "report.md").read_text()


def test_previews_are_reproducible_and_change_no_number_of_the_training(studio: Studio) -> None:
    samples = studio.samples(6)
    heard: dict[str, Any] = {
        "adapter": {"lora_dropout": 0.1},
        "prompt_dropout": 0.3,
    }  # both random streams of a training are in use

    silent = studio.train(samples, training={"epochs": 4}, **heard)
    loud = studio.train(samples, training={"epochs": 4}, previews=PREVIEWS, **heard)
    again = studio.train(samples, training={"epochs": 4}, previews=PREVIEWS, **heard)

    assert silent.rows() == loud.rows()
    assert silent.adapter() == loud.adapter()
    assert digests(loud) == digests(again)


def test_step_0_is_the_base_model_and_the_end_is_the_adapter(studio: Studio) -> None:
    samples = studio.samples(6)
    one = digests(studio.train(samples, previews=PREVIEWS, training={"epochs": 6, "seed": 1}))
    other = digests(studio.train(samples, previews=PREVIEWS, training={"epochs": 6, "seed": 2}))

    first, last = min(one), max(one)
    assert one[first] == other[first]
    assert one[last] != other[last]
    assert one[(0, 0)] != one[(0, 1)]  # the prompt counts, too


def test_the_seed_of_the_previews_changes_them(studio: Studio) -> None:
    samples = studio.samples(4)
    seeds = [digests(studio.train(samples, previews={**PREVIEWS, "preview_seed": seed})) for seed in (0, 1)]

    assert seeds[0][(0, 0)] != seeds[1][(0, 0)]


@pytest.mark.parametrize(("kind", "size"), [("dpo", 2), ("ranking", 3)])
def test_a_training_from_preferences_is_heard_as_often_and_changes_what_is_heard(
    studio: Studio, kind: str, size: int
) -> None:
    compared = preference_studio.comparisons(studio, 5, size=size)

    done = preference_studio.train(
        studio, kind, compared, training={"epochs": 5, "learning_rate": 0.02}, previews=PREVIEWS
    )

    heard = digests(done)
    assert list(heard) == [(step, prompt) for step in (0, 2, 4, 5) for prompt in (0, 1)]
    assert all(heard[(5, prompt)] != heard[(0, prompt)] for prompt in (0, 1))


@pytest.mark.parametrize("channels", [1, 2])
def test_guidance_really_changes_previews_and_equals_the_way_through_t5(
    base: BaseModel, stereo_base: BaseModel, channels: int
) -> None:
    chosen = base if channels == 1 else stereo_base

    def listen(guidance_scale: float) -> np.ndarray:
        settings = job_spec_pb2.PreviewSettings(preview_s=0.5, preview_seed=3, preview_guidance_scale=guidance_scale)
        return preview(chosen.model, chosen, "low sine drone", settings, lambda: False).sound_CN

    through_t5 = listen(3.0)
    states = {"low sine drone": chosen.encode_text("low sine drone")}
    chosen.model.text_encoder = CachedText(chosen, states)

    assert listen(3.0).shape == (channels, 8000)
    assert np.array_equal(listen(3.0), through_t5)
    assert not np.array_equal(listen(3.0), listen(1.0))


def test_a_preview_shorter_than_the_delay_is_still_made(studio: Studio) -> None:
    done = studio.train(studio.samples(4), training={"epochs": 1}, previews={**PREVIEWS, "preview_s": 0.03})

    assert {preview.duration_s for preview in done.previews()} == {0.03}


def test_a_training_resumed_at_the_end_of_an_epoch_makes_the_preview_that_was_due(studio: Studio) -> None:
    samples = studio.samples(10)
    whole = studio.train(samples, training={"epochs": 4}, previews=PREVIEWS)

    def stop(telemetry: Telemetry) -> bool:
        return telemetry.last_step() >= 3  # seen at step 4, where the second epoch ends

    first = studio.train(samples, training={"epochs": 4}, previews=PREVIEWS, stop=stop)
    second = studio.resume(first, samples, training={"epochs": 4}, previews=PREVIEWS)

    assert digests(first) | digests(second) == digests(whole)
    assert set(digests(first)) & set(digests(second)) == set()
