"""Clips are decided by who plays, prompt and seed; they keep their codes, and training takes these as they are."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.training.studio import Blobs, Studio, Telemetry, Training
from trainer_node.data.clip_codes import read_codes
from trainer_node.engines.musicgen import generate
from trainer_node.engines.musicgen.family import BaseModel
from trainer_node.engines.musicgen.features import Features
from trainer_node.engines.musicgen.sampling import Sampling, Wanted, play
from trainer_node.errors import BaseModelUnavailable, StartAdapterUnsuitable
from trainer_node.training import TrainingJob, TrainingSample
from tunesmith import spec as job_spec
from tunesmith.v1 import job_event_pb2, job_spec_pb2, trainer_pb2

PROMPTS = ["low sine drone", "a much longer prompt about a calm ambient pad"]
HALF_A_SECOND = Sampling(length_s=0.5)


def never() -> bool:
    return False


def generated(
    studio: Studio,
    *,
    stop: Callable[[], bool] = never,
    start_adapter: Path | None = None,
    model: str = "tiny",
    **given: Any,
) -> Training:
    """Play in a fresh output folder."""
    studio.trainings += 1
    settings = {"prompts": PROMPTS, "clip_s": 0.5, **given}
    spec = job_spec.parse(
        {"generate": {"player": {"base_model": model}, "generation": settings}}, job_spec_pb2.JobSpec()
    )
    telemetry, output = Telemetry(), studio.folder / f"played-{studio.trainings}"
    blobs = Blobs(studio.folder / "blobs")
    outcome = generate.train(
        TrainingJob(
            job=trainer_pb2.Job(spec=job_spec.resolve(spec)),
            models_dir=studio.models_dir,
            cache_dir=studio.cache_dir,
            output_dir=output,
            start_adapter_dir=start_adapter,
            device="cpu",
        ),
        telemetry,
        blobs,
        stop,
    )
    return Training(outcome, telemetry, blobs, output)


def digests(done: Training) -> dict[tuple[int, int], str]:
    """Content by (prompt, seed)."""
    return {(clip.prompt_index, clip.seed): clip.file.digest for clip in done.previews()}


def codes(done: Training) -> list[bytes]:
    """The codes of each clip, in order."""
    kept = [read_codes(done.blobs.folder / clip.file.digest) for clip in done.previews()]
    return [one.codes_KT.tobytes() for one in kept if one]


def test_every_prompt_is_played_with_every_seed_and_each_clip_is_told(studio: Studio) -> None:
    done = generated(studio, clips_per_prompt=3, seed=7)

    clips = done.previews()
    started = next(event.started for event in done.telemetry.events if event.HasField("started"))
    assert done.result().clip_count == started.total_steps == 6
    assert [(clip.prompt_index, clip.seed) for clip in clips] == [(i, seed) for i in (0, 1) for seed in (7, 8, 9)]
    assert [clip.prompt for clip in clips[::3]] == PROMPTS
    assert {clip.duration_s for clip in clips} == {0.5}
    assert len(set(digests(done).values())) == 6
    assert done.rows()[-1][0] == 6 and done.metric("clips_per_s")[-1] > 0


def test_a_clip_is_the_same_whatever_is_played_beside_it(base: BaseModel, stereo_base: BaseModel) -> None:
    for player in (base, stereo_base):
        wanted = [Wanted(prompt, seed) for prompt in PROMPTS for seed in (1, 2)]

        together = play(player.model, player, wanted, HALF_A_SECOND, never)
        alone = [play(player.model, player, [one], HALF_A_SECOND, never)[0] for one in wanted]

        for one, other in zip(together, alone, strict=True):
            assert np.array_equal(one.codes_KT, other.codes_KT)
            assert np.allclose(one.sound_CN, other.sound_CN, atol=1e-5)


def test_draws_are_as_frequent_as_the_model_says(base: BaseModel) -> None:
    first = Sampling(length_s=1 / base.frame_rate_hz, guidance_scale=1, temperature=0.7, top_k=5)
    wanted = [Wanted(PROMPTS[0], seed) for seed in range(1500)]

    drawn = [int(clip.codes_KT[0, 0]) for clip in play(base.model, base, wanted, first, never)]

    tokens = base.tokenizer([PROMPTS[0]], return_tensors="pt")
    levels = base.model.config.decoder.num_codebooks
    begin = torch.full((levels, 1), base.model.config.decoder.pad_token_id)
    with torch.no_grad():
        scores_V = base.model(**tokens, decoder_input_ids=begin).logits[0, -1] / 0.7
    likeliest = scores_V.topk(5)
    shares = torch.softmax(likeliest.values, 0)
    counts = torch.tensor([drawn.count(int(code)) for code in likeliest.indices])
    assert counts.sum() == 1500
    chi_squared = float(((counts - 1500 * shares) ** 2 / (1500 * shares)).sum())
    assert chi_squared < 18.5  # 4 degrees of freedom: exceeded once in a thousand times


def test_guidance_chooses_only_among_what_is_plausible_with_the_prompt(base: BaseModel) -> None:
    first = Sampling(length_s=1 / base.frame_rate_hz, guidance_scale=8, temperature=3, top_k=2048)
    wanted = [Wanted(PROMPTS[0], seed) for seed in range(200)]

    tokens = base.tokenizer([PROMPTS[0]], return_tensors="pt")
    begin = torch.full((base.model.config.decoder.num_codebooks, 1), base.model.config.decoder.pad_token_id)
    with torch.no_grad():
        scores_V = base.model(**tokens, decoder_input_ids=begin).logits[0, -1]
    plausible = set((scores_V >= scores_V.max() + 3 * math.log(0.2)).nonzero().flatten().tolist())
    free, held = (
        {int(clip.codes_KT[0, 0]) for clip in play(base.model, base, wanted, replace(first, min_p=min_p), never)}
        for min_p in (0.0, 0.2)
    )

    assert len(plausible) > 1
    assert held <= plausible
    assert not free <= plausible


def test_the_likeliest_code_is_taken_with_top_k_1(base: BaseModel) -> None:
    greedy = replace(HALF_A_SECOND, top_k=1)

    [one, other] = play(base.model, base, [Wanted(PROMPTS[0], seed) for seed in (1, 2)], greedy, never)

    assert np.array_equal(one.codes_KT, other.codes_KT)


def test_what_is_left_open_is_as_the_model_says(base: BaseModel, monkeypatch: pytest.MonkeyPatch) -> None:
    own = base.model.generation_config
    for name, value in (("temperature", 0.3), ("top_k", 7), ("guidance_scale", 2.0), ("min_p", 0.2)):
        monkeypatch.setattr(own, name, value)

    settled = HALF_A_SECOND.of(base)

    assert (settled.temperature, settled.top_k, settled.guidance_scale, settled.min_p) == (0.3, 7, 2.0, 0.2)
    assert replace(HALF_A_SECOND, guidance_scale=1.0).of(base).guidance_scale == 1.0


def test_guidance_and_temperature_change_what_is_played(studio: Studio) -> None:
    plain, guided, hotter, same = (
        digests(generated(studio, **given))
        for given in (
            {"guidance_scale": 1, "temperature": 1},
            {"guidance_scale": 4, "temperature": 1},
            {"guidance_scale": 1, "temperature": 3},
            {"guidance_scale": 1, "temperature": 1},
        )
    )

    assert plain == same
    assert all(plain[one] != guided[one] for one in plain)
    assert any(plain[one] != hotter[one] for one in plain)


def test_an_adapter_plays_otherwise_and_the_same_as_its_own_preview(studio: Studio) -> None:
    previews = {"preview_prompts": PROMPTS, "preview_s": 0.5, "preview_seed": 5}
    trained = studio.train(
        studio.samples(6), training={"epochs": 6}, previews=previews, validation={"validation_fraction": 0}
    )

    base, adapter = (
        codes(generated(studio, seed=5, start_adapter=folder)) for folder in (None, trained.output_dir / "adapter")
    )

    heard = codes(trained)
    assert base != adapter
    assert base + adapter == heard


def test_an_adapter_of_another_base_model_is_refused(studio: Studio) -> None:
    trained = studio.train(studio.samples(4), training={"epochs": 1})
    stated = trainer_pb2.StartAdapter(base_model_fingerprint="0" * 64)

    with pytest.raises(StartAdapterUnsuitable, match="was trained on another base model"):
        generate._player(  # the fingerprint comes with the job
            TrainingJob(
                job=trainer_pb2.Job(start_adapter=stated),
                models_dir=studio.models_dir,
                cache_dir=studio.cache_dir,
                output_dir=studio.folder,
                start_adapter_dir=trained.output_dir / "adapter",
                device="cpu",
            ),
            job_spec_pb2.PlayerSettings(base_model="tiny"),
        )


def test_a_base_model_that_is_not_there_is_named(studio: Studio) -> None:
    with pytest.raises(BaseModelUnavailable, match="has no folder 'absent'"):
        generated(studio, model="absent")


def test_asked_to_stop_it_leaves_what_it_has_played(studio: Studio, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(generate, "_MOST_AT_ONCE", 2)
    steps = iter(range(10_000))

    done = generated(studio, clips_per_prompt=4, stop=lambda: next(steps) > 60)

    assert isinstance(done.outcome, job_event_pb2.JobCancelled)
    assert 0 < len(done.previews()) < 8
    assert done.rows()[-1][0] == len(done.previews())


@pytest.mark.parametrize("kind", ["tiny", "tiny-stereo"])
def test_training_takes_the_codes_that_a_clip_was_decoded_from(
    studio: Studio, base: BaseModel, stereo_base: BaseModel, tmp_path: Path, kind: str
) -> None:
    chosen = base if kind == "tiny" else stereo_base
    done = generated(studio, model=kind, seed=3)
    [clip, _] = done.previews()
    path = done.blobs.folder / clip.file.digest
    sample = TrainingSample(prompt=clip.prompt, audio_path=path, audio_digest=clip.file.digest)

    kept = read_codes(path)
    features = Features(chosen, tmp_path, max_clip_s=30)
    short = Features(chosen, tmp_path, max_clip_s=0.2)

    assert kept is not None and kept.codec == chosen.codec_fingerprint()
    assert np.array_equal(features.codes(sample).numpy(), kept.codes_KT)
    assert np.array_equal(short.codes(sample).numpy(), kept.codes_KT[:, : int(0.2 * chosen.frame_rate_hz)])
    assert not np.array_equal(features._encode(sample).numpy(), kept.codes_KT)  # encoded again they are others


def test_codes_of_another_codec_or_beyond_its_codebooks_are_not_taken(
    studio: Studio, base: BaseModel, tmp_path: Path
) -> None:
    [clip, _] = (done := generated(studio)).previews()
    content = (done.blobs.folder / clip.file.digest).read_bytes()
    at = content.index(b"tsmc") + 8
    foreign, beyond = bytearray(content), bytearray(content)
    foreign[at + 8] ^= 1  # the codec's fingerprint
    beyond[-2:] = b"\xff\x7f"

    encoded = []
    for name, changed in (("foreign", foreign), ("beyond", beyond)):
        (tmp_path / name).write_bytes(changed)
        sample = TrainingSample(prompt="", audio_path=tmp_path / name, audio_digest=name)
        encoded.append(Features(base, tmp_path, max_clip_s=30).codes(sample))

    sample = TrainingSample(prompt="", audio_path=tmp_path / "foreign", audio_digest="again")
    again = Features(base, tmp_path / "other", max_clip_s=30)._encode(sample)
    assert all(torch.equal(codes_KT, again) for codes_KT in encoded)


def test_many_small_clips_or_few_large_ones_are_played_at_once(
    base: BaseModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    few_s, many_s = Sampling(length_s=0.5, guidance_scale=1), Sampling(length_s=30, guidance_scale=3)

    small = generate._at_once(base, few_s)
    monkeypatch.setattr(base.model.config.decoder, "hidden_size", 2048)
    monkeypatch.setattr(base.model.config.decoder, "num_hidden_layers", 48)
    large = generate._at_once(base, many_s)

    assert small == 64
    assert large == 1
