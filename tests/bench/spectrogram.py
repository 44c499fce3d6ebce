"""A spectrogram as a PNG: time to the right, pitch upwards, an octave as high as any other, loud is dark."""

from __future__ import annotations

import struct
import zlib

import numpy as np
from numpy.typing import NDArray

WIDTH, HEIGHT = 480, 160
_LOWEST_HZ, _QUIETEST_DB = 100.0, -50.0
_WINDOW_S = 0.064


def png(sound_N: NDArray[np.float32], rate_hz: int) -> bytes:
    """The picture of one channel, 480 by 160 pixels, 256 greys."""
    return _png(_pixels(np.asarray(sound_N, np.float64), rate_hz))


def _pixels(sound_N: NDArray[np.float64], rate_hz: int) -> NDArray[np.uint8]:
    window = round(_WINDOW_S * rate_hz)
    begins = np.linspace(0, len(sound_N) - 1, WIDTH).astype(int)
    padded = np.pad(sound_N, (window // 2, window))
    frames = np.stack([padded[begin : begin + window] for begin in begins]) * np.hanning(window)
    magnitudes = np.abs(np.fft.rfft(frames, 4 * window))  # finer between the bins
    pitches_hz = _LOWEST_HZ * (rate_hz / 2 / _LOWEST_HZ) ** np.linspace(1, 0, HEIGHT)  # the highest on top
    bins = np.clip(np.round(pitches_hz * 4 * window / rate_hz).astype(int), 0, magnitudes.shape[1] - 1)
    seen = magnitudes[:, bins].T
    levels_db = 20 * np.log10(seen / (seen.max() + 1e-12) + 1e-12)
    return (255 * np.clip(levels_db / _QUIETEST_DB, 0, 1)).astype(np.uint8)


def _png(grey: NDArray[np.uint8]) -> bytes:
    """PNG, 8 bits of grey, no filter (RFC 2083)."""
    height, width = grey.shape
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    rows = b"".join(b"\0" + row.tobytes() for row in grey)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(rows, 9)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(name, body) for name, body in chunks)


def _chunk(name: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))
