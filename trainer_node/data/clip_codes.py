"""The codes that a generated clip was decoded from, kept in its WAV file in a chunk of their own.

A clip that is decoded and encoded again has other codes: a model that is trained on those begins with 0.3 to 2.6 nats a
token more than on its own. So the codes go wherever the clip goes (a data set, a download, an import elsewhere) and
are covered by its SHA-256. Every player skips a chunk that it does not know.

The chunk, `tsmc`, behind the sound: version, codebooks (bytes), two zero bytes, frames (32 bits), the SHA-256 of the
codec, and the codes, codebook by codebook, 16 bits each; little-endian. What does not have this shape is no codes.
"""

from __future__ import annotations

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
_HEAD = struct.Struct("<BBHI32s")
_MAX_FRAMES = 100_000  # half an hour at 50 a second


@dataclass(frozen=True)
class ClipCodes:
    """codes_KT: int16. codec: fingerprint, in hex, of the codec that decodes them."""

    codes_KT: NDArray[np.int16]
    codec: str


def write_clip(path: Path, sound_CN: NDArray[np.float32], rate_hz: int, codes: ClipCodes) -> None:
    """A WAV file of 16 bits with its codes."""
    wav = io.BytesIO()
    soundfile.write(wav, sound_CN.T, rate_hz, subtype="PCM_16", format="WAV")
    codebooks, frames = codes.codes_KT.shape
    head = _HEAD.pack(_VERSION, codebooks, 0, frames, bytes.fromhex(codes.codec))
    body = head + codes.codes_KT.astype("<i2").tobytes()  # of even length, so it needs no padding
    whole = bytearray(wav.getvalue() + _NAME + struct.pack("<I", len(body)) + body)
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
            bodies = [os.pread(fd, length, at) for name, at, length in chunks(fd, size, "<") if _is_ours(name, length)]
        except AudioRefused:  # too many chunks
            return None
    return _parsed(bodies[0]) if bodies else None


def _is_ours(name: bytes, length: int) -> bool:
    return name == _NAME and length <= _HEAD.size + 2 * 255 * _MAX_FRAMES


def _parsed(body: bytes) -> ClipCodes | None:
    if len(body) < _HEAD.size:
        return None
    version, codebooks, _, frames, codec = _HEAD.unpack_from(body)
    if version != _VERSION or not codebooks or not frames or len(body) != _HEAD.size + 2 * codebooks * frames:
        return None
    codes_N = np.frombuffer(body, "<i2", offset=_HEAD.size)
    return ClipCodes(codes_N.reshape(codebooks, frames).astype(np.int16), codec.hex())
