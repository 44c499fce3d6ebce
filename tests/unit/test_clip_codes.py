"""A clip keeps the codes that it was decoded from, wherever it goes; what is no codes is none, and no error."""

from __future__ import annotations

import hashlib
import io
import struct
from pathlib import Path

import numpy as np
import pytest
import soundfile

from trainer_node.data.audio import inspect_audio, read_audio
from trainer_node.data.clip_codes import ClipCodes, read_codes, write_clip

CODEC = "0f" * 32
CODES_KT = np.arange(12, dtype=np.int16).reshape(4, 3)
RATE_HZ = 8000
WAVE_CN = np.linspace(-0.5, 0.5, 961, dtype=np.float32)[None]


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    path = tmp_path / "clip.wav"
    sound_CN = np.linspace(-0.5, 0.5, 961, dtype=np.float32)[
        None
    ]  # an odd number of bytes a channel would need padding
    write_clip(path, sound_CN, RATE_HZ, ClipCodes(CODES_KT, CODEC))
    return path


def pcm() -> bytes:
    """The sound's bytes, as another program writes them."""
    raw = io.BytesIO()
    soundfile.write(raw, WAVE_CN[0], RATE_HZ, subtype="PCM_16", format="RAW")
    return raw.getvalue()


def chunk(name: bytes, body: bytes) -> bytes:
    return name + struct.pack("<I", len(body)) + body + b"\0" * (len(body) % 2)


def test_the_codes_come_back_and_the_sound_is_that_of_any_wav_file(clip: Path, tmp_path: Path) -> None:
    kept = read_codes(clip)

    plain = tmp_path / "plain.wav"
    soundfile.write(plain, WAVE_CN[0], RATE_HZ, subtype="PCM_16")
    assert kept is not None and kept.codec == CODEC and np.array_equal(kept.codes_KT, CODES_KT)
    assert np.array_equal(soundfile.read(clip)[0], soundfile.read(plain)[0])
    assert inspect_audio(clip) == inspect_audio(plain)
    read = [read_audio(path, sample_rate_hz=RATE_HZ, channels=1, max_s=1) for path in (clip, plain)]
    assert np.array_equal(*read)


def test_the_header_states_the_whole_file(clip: Path) -> None:
    content = clip.read_bytes()

    assert struct.unpack("<I", content[4:8])[0] == len(content) - 8


def test_codes_are_found_behind_other_chunks(clip: Path) -> None:
    content = clip.read_bytes()
    at = content.index(b"tsmc")

    clip.write_bytes(content[:at] + chunk(b"LIST", b"INFOodd") + content[at:])

    kept = read_codes(clip)
    assert kept is not None and np.array_equal(kept.codes_KT, CODES_KT)


HEAD = struct.Struct("<BBHI32s32s")
FINGERPRINT, SOUND = bytes.fromhex(CODEC), hashlib.sha256(pcm()).digest()


def test_codes_that_another_program_writes_as_they_should_be_are_read(clip: Path) -> None:
    content = clip.read_bytes()
    body = HEAD.pack(1, 4, 0, 3, FINGERPRINT, SOUND) + b"\0" * 24

    clip.write_bytes(content[: content.index(b"tsmc")] + chunk(b"tsmc", body))

    assert read_codes(clip) is not None


def test_a_sound_that_was_changed_has_no_codes_any_more(clip: Path) -> None:
    content = bytearray(clip.read_bytes())
    at = content.index(b"data") + 8

    content[at : at + 2 * 961] = bytes(2 * 961)  # an editor that keeps what it does not know
    clip.write_bytes(content)

    assert len(soundfile.read(clip)[0]) == 961
    assert read_codes(clip) is None


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\x01",
        HEAD.pack(1, 4, 0, 3, FINGERPRINT, SOUND) + b"\0" * 23,  # a byte is missing
        HEAD.pack(1, 4, 0, 3, FINGERPRINT, SOUND) + b"\0" * 26,  # there is more
        HEAD.pack(2, 4, 0, 3, FINGERPRINT, SOUND) + b"\0" * 24,  # of a later version
        HEAD.pack(1, 0, 0, 3, FINGERPRINT, SOUND),
        HEAD.pack(1, 4, 0, 0, FINGERPRINT, SOUND),
        HEAD.pack(1, 255, 0, 0xFFFFFFFF, FINGERPRINT, SOUND) + b"\0" * 24,  # a length that is not there
    ],
)
def test_a_chunk_that_is_not_as_it_should_be_is_no_codes(clip: Path, body: bytes) -> None:
    content = clip.read_bytes()

    clip.write_bytes(content[: content.index(b"tsmc")] + chunk(b"tsmc", body))

    assert read_codes(clip) is None


@pytest.mark.parametrize(
    "content", [b"", b"RIFF", b"ID3\x04", b"RIFX\0\0\0\0WAVE", b"RIFF\0\0\0\0WAVEtsmc\xff\xff\xff\xff"]
)
def test_what_is_no_such_file_keeps_no_codes(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "clip").write_bytes(content)

    assert read_codes(tmp_path / "clip") is None


def test_a_file_of_a_million_chunks_is_not_read_to_its_end(tmp_path: Path) -> None:
    (tmp_path / "clip").write_bytes(b"RIFF\0\0\0\0WAVE" + chunk(b"junk", b"") * 1_000_000)

    assert read_codes(tmp_path / "clip") is None
