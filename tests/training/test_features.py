"""Codes and text states are computed once, cached by content, and never wrong."""

from __future__ import annotations

import errno
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from tests.training.studio import Studio
from trainer_node.engines import tensor_files
from trainer_node.engines.musicgen.family import BaseModel
from trainer_node.engines.musicgen.features import Features
from trainer_node.errors import DataInvalid


def never() -> bool:
    return False


def test_cached_features_equal_fresh_ones_and_are_not_computed_again(
    studio: Studio, base: BaseModel, tmp_path: Path
) -> None:
    samples = studio.samples(4, length_s=[0.3, 0.5, 0.4, 0.6], rate_hz=22050)
    first = Features(base, tmp_path / "shared", max_clip_s=30)
    fresh = first.clips(samples, never)
    elsewhere = Features(base, tmp_path / "other", max_clip_s=30).clips(samples, never)

    again = Features(base, tmp_path / "shared", max_clip_s=30)
    cached = again.clips(samples, never)

    assert (first.cache.computed, first.cache.looked_up) == (4 + 3, 4 + 3)  # four clips, three different prompts
    assert again.cache.computed == 0
    for one, two, three in zip(fresh, cached, elsewhere, strict=True):
        assert torch.equal(one.codes_KT, two.codes_KT) and torch.equal(one.codes_KT, three.codes_KT)
        assert torch.equal(one.text_LD, two.text_LD) and torch.equal(one.text_LD, three.text_LD)


def test_a_second_training_computes_no_feature_again(
    studio: Studio, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    studio.cache_dir = tmp_path / "cache"
    samples = studio.samples(4)

    studio.train(samples, training={"epochs": 1})
    studio.train(samples, training={"epochs": 1, "seed": 7}, previews={"preview_prompts": ["low sine drone"]})

    printed = capfd.readouterr().out
    assert "encoded 7 of 7 clips and prompts" in printed
    assert "encoded 0 of 7 clips and prompts" in printed


def test_another_crop_and_another_codec_are_other_features(studio: Studio, base: BaseModel, tmp_path: Path) -> None:
    [sample] = studio.samples(1, length_s=1.0)
    whole = Features(base, tmp_path, max_clip_s=30).codes(sample)

    cut = Features(base, tmp_path, max_clip_s=0.4).codes(sample)
    with torch.no_grad():
        base.model.audio_encoder.quantizer.layers[0].codebook.embed.mul_(-1)
    other = Features(base, tmp_path, max_clip_s=30).codes(sample)

    assert (whole.shape, cut.shape) == ((4, 50), (4, 20))
    assert not torch.equal(whole, other)


def test_a_torn_cache_entry_is_computed_again(studio: Studio, base: BaseModel, tmp_path: Path) -> None:
    [sample] = studio.samples(1)
    before = Features(base, tmp_path, max_clip_s=30).codes(sample)
    [entry] = tmp_path.rglob("*.safetensors")
    entry.write_bytes(entry.read_bytes()[:50])

    after = Features(base, tmp_path, max_clip_s=30)

    assert torch.equal(after.codes(sample), before)
    assert after.cache.computed == 1


def a_bit_over(entry: Path) -> None:
    content = entry.read_bytes()
    entry.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))


def of_another_clip(entry: Path) -> None:
    tensor_files.write(entry, {"value": torch.zeros(4, 3, dtype=torch.int16)})


def a_folder(entry: Path) -> None:
    entry.unlink()
    entry.mkdir()


@pytest.mark.parametrize("damage", [a_bit_over, of_another_clip, a_folder])
def test_an_entry_that_is_not_what_was_put_there_is_computed_again(
    studio: Studio, base: BaseModel, tmp_path: Path, damage: Callable[[Path], None]
) -> None:
    [sample] = studio.samples(1)
    before = Features(base, tmp_path, max_clip_s=30).codes(sample)
    [entry] = tmp_path.rglob("*.safetensors")
    damage(entry)

    after = Features(base, tmp_path, max_clip_s=30)

    assert torch.equal(after.codes(sample), before)
    assert after.cache.computed == 1


def test_an_entry_moved_to_the_place_of_another_is_not_taken_for_it(
    studio: Studio, base: BaseModel, tmp_path: Path
) -> None:
    one, two = studio.samples(2)
    before = Features(base, tmp_path / "one", max_clip_s=30).codes(one)
    Features(base, tmp_path / "two", max_clip_s=30).codes(two)
    [entry], [other] = ((tmp_path / name).rglob("*.safetensors") for name in ("one", "two"))
    other.replace(entry)

    after = Features(base, tmp_path / "one", max_clip_s=30)

    assert torch.equal(after.codes(one), before)
    assert after.cache.computed == 1


def test_a_cache_that_cannot_be_written_costs_time_and_is_told_once(
    studio: Studio, base: BaseModel, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    samples = studio.samples(3)
    (tmp_path / "cache").touch()  # a file where the folder should be, which stops root, too

    clips = Features(base, tmp_path / "cache", max_clip_s=30).clips(samples, never)

    assert [clip.codes_KT.shape for clip in clips] == [(4, 25)] * 3
    assert capfd.readouterr().out.count("cannot be written (Not a directory), so nothing is kept there") == 1


def test_a_full_disk_ends_it(studio: Studio, base: BaseModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(tensor_files, "write", full)

    with pytest.raises(OSError, match="No space left"):
        Features(base, tmp_path, max_clip_s=30).clips(studio.samples(1), never)


def test_stereo_clips_have_left_and_right_interleaved(studio: Studio, stereo_base: BaseModel, base: BaseModel) -> None:
    [sample] = studio.samples(1)  # a mono file: both sides alike
    stereo = Features(stereo_base, studio.cache_dir, max_clip_s=30).codes(sample)

    assert stereo.shape == (8, 25)
    assert torch.equal(stereo[0::2], stereo[1::2])


def test_every_clip_too_short_for_a_frame_is_named(studio: Studio, base: BaseModel) -> None:
    samples = studio.samples(4, length_s=[0.5, 0.01, 0.5, 0.012])
    features = Features(base, studio.cache_dir, max_clip_s=30)

    with pytest.raises(DataInvalid) as refused:
        features.clips(samples, never)

    assert "lasts 0.010 s" in refused.value.message
    assert "lasts 0.012 s" in refused.value.message
    assert samples[1].prompt in refused.value.message
    assert "remove it from the data set" in refused.value.message


def test_a_limit_shorter_than_a_frame_is_blamed_on_the_setting_not_on_the_clips(studio: Studio) -> None:
    with pytest.raises(DataInvalid, match=r"^max_clip_s is 0\.01; give a frame of the codec \(0\.02\) or more$"):
        studio.train(studio.samples(4), training={"max_clip_s": 0.01})


def test_a_clip_that_cannot_be_read_is_named_with_its_reason(studio: Studio, base: BaseModel) -> None:
    [sample] = studio.samples(1)
    sample.audio_path.write_bytes(b"no sound at all")

    with pytest.raises(DataInvalid, match=f"the clip with the prompt '{sample.prompt}'.*; "):
        Features(base, studio.cache_dir, max_clip_s=30).clips([replace(sample, audio_digest="0" * 64)], never)
