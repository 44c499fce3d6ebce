"""The codes that a generated clip was decoded from, kept in its WAV file in a chunk of their own.

A clip that is decoded and encoded again has other codes: a model that is trained on those begins with 0.3 to 2.6 nats a
token more than on its own. So the codes go wherever the clip goes (a data set, a download, an import elsewhere) and
are covered by its SHA-256. Every player skips a chunk that it does not know.

The chunk, `tsmc`, behind the sound: version, codebooks (bytes), two zero bytes, frames (32 bits), the SHA-256 of the
codec, that of the sound's bytes, and the codes, codebook by codebook, 16 bits each; little-endian. What does not have
this shape is no codes, and neither is what a program has left behind a sound that it changed.
"""

from __future__ import annotations

import hashlib
import io
import os
import struct
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile
from numpy.typing import NDArray

from trainer_node.data.containers import chunks
from trainer_node.data.refusals import AudioRefused

_NAME, _VERSION = b"tsmc", 1
_HEAD = struct.Struct("<BBHI32s32s")
_MAX_FRAMES = 100_000  # half an hour at 50 a second
_MAX_SOUND_BYTES = 1 << 26  # five minutes in stereo at 48 kHz; a generated clip has at most half a minute


@dataclass(frozen=True)
class ClipCodes:
    """codes_KT: int16. codec: fingerprint, in hex, of the codec that decodes them."""

    codes_KT: NDArray[np.int16]
    codec: str


def write_clip(path: Path, sound_CN: NDArray[np.float32], rate_hz: int, codes: ClipCodes) -> None:
    """A WAV file of 16 bits with its codes."""
    wav = io.BytesIO()
    soundfile.write(wav, sound_CN.T, rate_hz, subtype="PCM_16", format="WAV")
    plain = wav.getvalue()
    codebooks, frames = codes.codes_KT.shape
    sound = hashlib.sha256(plain[-2 * sound_CN.size :]).digest()  # its bytes come last
    head = _HEAD.pack(_VERSION, codebooks, 0, frames, bytes.fromhex(codes.codec), sound)
    body = head + codes.codes_KT.astype("<i2").tobytes()  # of even length, so it needs no padding
    whole = bytearray(plain + _NAME + struct.pack("<I", len(body)) + body)
    struct.pack_into("<I", whole, 4, len(whole) - 8)
    path.write_bytes(whole)


def read_codes(path: Path) -> ClipCodes | None:
    """The codes that a clip keeps; None where it keeps none that can be read."""
    with path.open("rb") as file:
        fd, size = file.fileno(), path.stat().st_size
        magic = os.pread(fd, 12, 0)
        if magic[:4] != b"RIFF" or magic[8:] != b"WAVE":
            return None
        try:
            found = {name: (at, length) for name, at, length in chunks(fd, size, "<") if _is_wanted(name, length)}
        except AudioRefused:  # too many chunks
            return None
        if set(found) != {_NAME, b"data"}:
            return None
        body, sound = (os.pread(fd, length, at) for at, length in (found[_NAME], found[b"data"]))
    return _parsed(body, hashlib.sha256(sound).digest())


def _is_wanted(name: bytes, length: int) -> bool:
    return (name == _NAME and length <= _HEAD.size + 2 * 255 * _MAX_FRAMES) or (
        name == b"data" and length <= _MAX_SOUND_BYTES
    )


def _parsed(body: bytes, sound: bytes) -> ClipCodes | None:
    if len(body) < _HEAD.size:
        return None
    version, codebooks, _, frames, codec, of_sound = _HEAD.unpack_from(body)
    if (
        version != _VERSION
        or of_sound != sound
        or not codebooks
        or not frames
        or len(body) != _HEAD.size + 2 * codebooks * frames
    ):
        return None
    codes_N = np.frombuffer(body, "<i2", offset=_HEAD.size)
    return ClipCodes(codes_N.reshape(codebooks, frames).astype(np.int16), codec.hex())
