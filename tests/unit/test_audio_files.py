"""Which sound files may enter a data set, and why the others may not."""

from __future__ import annotations

import os
import struct
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.unit.sounds import FFMPEG, LIBSNDFILE, tone, wav, write
from trainer_node.data.audio import AudioRefused, inspect_audio

EVERY_KIND = [*LIBSNDFILE, *FFMPEG]


def refusal(path: Path) -> str:
    """Why a file is refused; the message is a sentence with a next step."""
    with pytest.raises(AudioRefused) as caught:
        inspect_audio(path)
    assert caught.value.reason == "SAMPLE_INVALID"
    assert "; " in caught.value.message
    return caught.value.message


@pytest.mark.parametrize("kind", EVERY_KIND)
@pytest.mark.parametrize("channels", [1, 2])
def test_a_whole_file_of_any_kind_is_measured(tmp_path, kind, channels):
    path = write(tmp_path / "clip", kind, tone(channels=channels))

    facts = inspect_audio(path)

    assert (facts.sample_rate_hz, facts.channels) == (48_000, channels)
    assert facts.duration_s == pytest.approx(1.0, abs=0.05)  # AAC pads its last frame


@pytest.mark.parametrize("kind", ["wav", "flac", "mp3", "ogg", "m4a"])
def test_the_content_decides_what_a_file_is_and_not_its_name(tmp_path, kind):
    for name in ("clip.wav", "clip.mp3", "clip.raw", "clip", "http:clip.txt"):
        assert inspect_audio(write(tmp_path / name, kind)).channels == 1


@pytest.mark.parametrize("kind", [*LIBSNDFILE, "m4a", "m4a-index-first", "webm"])
def test_a_file_cut_anywhere_is_refused(tmp_path, kind):
    rng = np.random.default_rng(0)
    whole = write(tmp_path / "whole", kind, rng.uniform(-0.3, 0.3, (24_000, 1)).astype(np.float32)).read_bytes()
    cut = tmp_path / "cut"

    for kept in {*np.linspace(1, len(whole) - 3, 40, dtype=int), len(whole) - 2}:
        cut.write_bytes(whole[:kept])
        refusal(cut)


def test_a_cut_wav_says_how_much_is_missing(tmp_path):
    cut = tmp_path / "cut.wav"
    cut.write_bytes(write(tmp_path / "whole.wav", "wav").read_bytes()[: 44 + 48_000])

    assert "48,000 of 96,000 bytes" in refusal(cut)


def test_a_raw_aac_cut_inside_a_frame_is_refused(tmp_path):
    whole = write(tmp_path / "whole", "aac").read_bytes()
    cut = tmp_path / "cut"
    cut.write_bytes(whole[: len(whole) // 2])

    assert "ends early" in refusal(cut)


def test_an_mp3_cut_between_two_frames_is_told_by_its_xing_header(tmp_path):
    whole = write(tmp_path / "whole.mp3", "mp3").read_bytes()
    starts = [at for at in range(len(whole) - 1) if whole[at : at + 2] == whole[:2] and whole[at + 2] & 0x0C == 4]
    cut = tmp_path / "cut.mp3"

    for start in starts[5::5]:
        cut.write_bytes(whole[:start])
        assert "ends early" in refusal(cut)


def test_a_page_missing_from_the_middle_of_an_ogg_is_noticed(tmp_path):
    rng = np.random.default_rng(0)
    whole = write(tmp_path / "whole.ogg", "ogg", rng.uniform(-0.3, 0.3, (96_000, 1)).astype(np.float32)).read_bytes()
    pages = whole.split(b"OggS")
    holed = tmp_path / "holed.ogg"
    holed.write_bytes(b"OggS".join(pages[:3] + pages[4:]))

    assert "page 2 is missing" in refusal(holed)


@pytest.mark.parametrize("kind", ["flac", "ogg"])
def test_a_byte_flipped_in_the_middle_is_noticed(tmp_path, kind):
    rng = np.random.default_rng(0)
    data = bytearray(
        write(tmp_path / "whole", kind, rng.uniform(-0.3, 0.3, (96_000, 1)).astype(np.float32)).read_bytes()
    )
    data[len(data) // 2] ^= 0xFF
    (tmp_path / "flipped").write_bytes(data)

    refusal(tmp_path / "flipped")


def test_tags_around_the_sound_are_no_damage(tmp_path):
    mp3 = write(tmp_path / "clip.mp3", "mp3").read_bytes()
    id3v2 = b"ID3\x04\x00\x00" + bytes([0, 0, 1, 0]) + bytes(128)
    tagged = tmp_path / "tagged.mp3"

    for before, after in ((id3v2, b""), (id3v2 + id3v2, b"TAG" + bytes(125)), (id3v2 + bytes(100), bytes(50))):
        tagged.write_bytes(before + mp3 + after)
        assert inspect_audio(tagged).duration_s == pytest.approx(1.0, abs=0.05)


def test_chunks_of_odd_length_are_padded_and_a_missing_last_pad_byte_is_no_damage(tmp_path):
    path = tmp_path / "odd.wav"
    odd = struct.pack("<4sI", b"note", 3) + b"abc\0"

    path.write_bytes(wav(bytes(3201), before=odd))
    assert inspect_audio(path).duration_s == 0.1
    path.write_bytes(wav(bytes(3200), before=odd, after=struct.pack("<4sI", b"LIST", 3) + b"abc"))
    assert inspect_audio(path).duration_s == 0.1


@pytest.mark.parametrize("length", [0xFFFFFFFF, 0])
def test_a_streamed_wav_whose_length_was_never_written_is_refused(tmp_path, length):
    path = tmp_path / "streamed.wav"
    path.write_bytes(wav(bytes(3200), data_length=length))

    assert "never written" in refusal(path)


def test_a_streamed_flac_whose_length_was_never_written_is_refused(tmp_path):
    data = bytearray(write(tmp_path / "clip.flac", "flac").read_bytes())
    data[21] &= 0xF0
    data[22:26] = bytes(4)
    (tmp_path / "streamed.flac").write_bytes(data)

    assert "never written" in refusal(tmp_path / "streamed.flac")


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"", "empty"),
        (b"Hello, this is a text and no sound at all.", "not a sound file"),
        (b"\xff\xfeH\0e\0l\0l\0o\0" * 20, "not a sound file"),
        (b"#EXTM3U\n#EXTINF:1,\nfile:///etc/passwd\n", "not a sound file"),
        (b"ffconcat version 1.0\nfile /etc/passwd\n", "not a sound file"),
        (b"PK\x03\x04" + bytes(100), "not a sound file"),
        (b"RIFF\x00\x00\x00\x00WAVE", "ends early"),
        (b"RIFF\xff\xff\xff\xffAVI LIST", "not a sound file"),
        (b"fLaC" + bytes(38), "never written"),
        (b"OggS" + bytes(20), "ends early"),
        (b"OggS" + bytes(23), "checksum"),
        (b"\x1a\x45\xdf\xa3\x80", "no sound in it"),
        (wav(b""), "0 samples"),
        (wav(bytes(100), data_length=1_000_000_000), "ends early"),
    ],
)
def test_what_is_no_whole_sound_file_is_refused_with_a_sentence(tmp_path, data, says):
    (tmp_path / "file.wav").write_bytes(data)

    assert says in refusal(tmp_path / "file.wav")


def test_paths_that_are_no_readable_file_are_refused_without_waiting(tmp_path):
    os.mkfifo(tmp_path / "pipe")

    for path in (tmp_path / "absent.wav", tmp_path, tmp_path / "pipe", Path("/dev/zero"), tmp_path / ("x" * 300)):
        refusal(path)
    refusal(Path("nul\0.wav"))


def test_silence_is_a_sound(tmp_path):
    assert inspect_audio(write(tmp_path / "silence.wav", "wav", np.zeros((4_800, 2), np.float32))).duration_s == 0.1


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_sample_that_is_not_finite_is_refused_with_its_place(tmp_path, bad):
    sound = tone(channels=2)
    sound[24_000, 1] = bad

    assert "0.500 s" in refusal(write(tmp_path / "clip.wav", "wav-float", sound))


def test_integers_stored_as_floats_are_refused(tmp_path):
    assert "full scale" in refusal(write(tmp_path / "clip.wav", "wav-float", 32_768 * tone()))


def test_more_than_two_channels_are_refused(tmp_path):
    assert "3 channels" in refusal(write(tmp_path / "clip.wav", "wav", tone(channels=3)))


@pytest.mark.parametrize("rate_hz", [4_000, 384_000])
def test_unusual_sampling_rates_are_refused(tmp_path, rate_hz):
    assert f"{rate_hz} Hz" in refusal(write(tmp_path / "clip.wav", "wav", tone(rate_hz=rate_hz), rate_hz=rate_hz))


@pytest.mark.parametrize("kind", [*LIBSNDFILE, *FFMPEG])
def test_a_clip_longer_than_allowed_is_refused(tmp_path, kind):
    path = write(tmp_path / "clip", kind, tone(duration_s=1.5))

    with pytest.raises(AudioRefused, match="longer than 1 s"):
        inspect_audio(path, max_s=1)
    assert inspect_audio(path, max_s=2).duration_s == pytest.approx(1.5, abs=0.05)


def test_a_flac_that_claims_a_thousand_million_samples_is_refused_by_its_header(tmp_path):
    data = bytearray(write(tmp_path / "clip.flac", "flac").read_bytes())
    data[22:26] = (1_000_000_000).to_bytes(4, "big")
    (tmp_path / "liar.flac").write_bytes(data)

    assert "longer than 600 s" in refusal(tmp_path / "liar.flac")


def test_a_flac_that_claims_more_samples_than_it_has_is_refused(tmp_path):
    data = bytearray(write(tmp_path / "clip.flac", "flac").read_bytes())
    data[22:26] = (60_000).to_bytes(4, "big")
    (tmp_path / "liar.flac").write_bytes(data)

    refusal(tmp_path / "liar.flac")


BEGINNINGS = [
    b"",
    b"RIFF\x24\x00\x00\x00WAVEfmt ",
    b"FORM\x00\x00\x00\x24AIFFCOMM",
    b"fLaC\x00\x00\x00\x22",
    b"OggS\x00\x02",
    b"ID3",
    b"\xff\xfb\x90\x44",
    b"\xff\xf1\x50\x80",
    b"\x00\x00\x00\x18ftypM4A ",
    b"\x1a\x45\xdf\xa3\x84",
]


@pytest.mark.parametrize("start", BEGINNINGS)
@settings(max_examples=25, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rest=st.binary(max_size=300))
def test_no_bytes_whatever_cause_anything_but_a_refusal(tmp_path, start, rest):
    path = tmp_path / "bytes"
    path.write_bytes(start + rest)

    try:
        inspect_audio(path)
    except AudioRefused as error:
        assert "; " in error.message


@pytest.mark.parametrize("kind", EVERY_KIND)
@settings(max_examples=15, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(changes=st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 255)), min_size=1, max_size=5))
def test_no_damage_to_a_file_causes_anything_but_a_refusal(tmp_path, kind, changes):
    whole = tmp_path / "whole"
    if not whole.exists():
        write(whole, kind, tone(duration_s=0.1))
    data = bytearray(whole.read_bytes())
    for place, byte in changes:
        data[int(place * len(data) * (0.2 if byte % 2 else 1))] = byte
    (tmp_path / "damaged").write_bytes(data)

    try:
        inspect_audio(tmp_path / "damaged")
    except AudioRefused as error:
        assert "; " in error.message


def test_half_an_hour_of_silence_is_refused_by_its_header(tmp_path):
    path = tmp_path / "bomb.flac"
    with soundfile.SoundFile(path, "w", 8_000, 1, format="FLAC") as file:
        for _ in range(30):
            file.write(np.zeros(60 * 8_000, np.float32))

    assert path.stat().st_size < 200_000
    assert "1800.0 s" in refusal(path)
