"""What an engine is given of a sound file."""

from __future__ import annotations

import numpy as np
import pytest
import soxr

from tests.unit.sounds import tone, write
from trainer_node.data.audio import AudioRefused, read_audio


def test_reading_at_the_own_rate_gives_the_samples_as_they_are(tmp_path):
    sound = tone(rate_hz=32_000, channels=2)

    samples_CN = read_audio(write(tmp_path / "a.wav", "wav-float", sound, rate_hz=32_000),
                            sample_rate_hz=32_000, channels=2, max_s=10)  # fmt: skip

    assert samples_CN.dtype == np.float32
    assert samples_CN.flags.c_contiguous
    assert np.array_equal(samples_CN, sound.T)


@pytest.mark.parametrize("rate_hz", [8_000, 16_000, 22_050, 44_100, 48_000, 192_000])
def test_resampling_block_by_block_gives_what_resampling_the_whole_gives(tmp_path, rate_hz):
    sound = tone(duration_s=3, rate_hz=rate_hz)

    samples_CN = read_audio(write(tmp_path / "a.wav", "wav-float", sound, rate_hz=rate_hz),
                            sample_rate_hz=32_000, channels=1, max_s=10)  # fmt: skip

    assert samples_CN.shape == (1, 96_000)
    assert np.allclose(samples_CN[0], soxr.resample(sound[:, 0], rate_hz, 32_000, quality="HQ"), atol=1e-5)


def test_stereo_is_averaged_to_mono_and_mono_doubled_to_stereo(tmp_path):
    stereo = tone(rate_hz=32_000, channels=2)
    two, one = write(tmp_path / "2.wav", "wav-float", stereo), write(tmp_path / "1.wav", "wav-float", stereo[:, :1])

    as_mono = read_audio(two, sample_rate_hz=48_000, channels=1, max_s=10)
    as_stereo = read_audio(one, sample_rate_hz=48_000, channels=2, max_s=10)

    assert np.allclose(as_mono[0], stereo.mean(axis=1), atol=1e-6)
    assert np.array_equal(as_stereo, np.stack([stereo[:, 0]] * 2))


@pytest.mark.parametrize("kind", ["wav", "flac", "ogg", "mp3", "m4a", "webm"])
def test_the_tone_comes_back_from_every_format(tmp_path, kind):
    path = write(tmp_path / "a", kind, tone(hz=1_000))

    samples_CN = read_audio(path, sample_rate_hz=32_000, channels=1, max_s=10)

    spectrum = np.abs(np.fft.rfft(samples_CN[0, :32_000]))
    assert abs(int(spectrum.argmax()) * 32_000 / 32_000 - 1_000) <= 2
    assert np.abs(samples_CN[0, 8_000:24_000]).max() == pytest.approx(0.3, abs=0.05)


def test_only_the_first_seconds_of_a_long_file_are_read(tmp_path):
    sound = tone(duration_s=5, rate_hz=44_100)
    path = write(tmp_path / "a.wav", "wav-float", sound, rate_hz=44_100)

    samples_CN = read_audio(path, sample_rate_hz=16_000, channels=1, max_s=1.5)

    assert samples_CN.shape == (1, 24_000)
    assert np.allclose(
        samples_CN[0, :20_000], soxr.resample(sound[:, 0], 44_100, 16_000, quality="HQ")[:20_000], atol=1e-4
    )


def test_half_of_a_file_is_never_taken_for_the_whole(tmp_path):
    whole = write(tmp_path / "whole.wav", "wav").read_bytes()
    (tmp_path / "cut.wav").write_bytes(whole[: len(whole) // 2])

    with pytest.raises(AudioRefused, match="ends early"):
        read_audio(tmp_path / "cut.wav", sample_rate_hz=32_000, channels=1, max_s=10)
