"""Sound files for the tests of part `data`, really written, and ways to spoil them."""

from __future__ import annotations

import struct
from pathlib import Path

import av
import numpy as np
import soundfile
from numpy.typing import NDArray

# every format that is read, as (name, how it is written)
LIBSNDFILE = {
    "wav": ("WAV", "PCM_16"),
    "wav-float": ("WAV", "FLOAT"),
    "wavex": ("WAVEX", "PCM_24"),
    "rf64": ("RF64", "PCM_16"),
    "aiff": ("AIFF", "PCM_16"),
    "flac": ("FLAC", "PCM_16"),
    "ogg": ("OGG", "VORBIS"),
    "opus": ("OGG", "OPUS"),
    "mp3": ("MP3", "MPEG_LAYER_III"),
}
FFMPEG = {
    "m4a": ("ipod", "aac", {}),
    "m4a-index-first": ("ipod", "aac", {"movflags": "faststart"}),
    "webm": ("webm", "libopus", {}),
    "aac": ("adts", "aac", {}),
}


def tone(
    *, duration_s: float = 1.0, rate_hz: int = 48_000, channels: int = 1, hz: float = 440.0
) -> NDArray[np.float32]:
    """A sine as [N, channels], a little different in each channel."""
    time = np.arange(round(duration_s * rate_hz)) / rate_hz
    return np.stack([0.3 * np.sin(2 * np.pi * (hz + c) * time) for c in range(channels)], axis=1).astype(np.float32)


def write(path: Path, kind: str, sound: NDArray[np.float32] | None = None, *, rate_hz: int = 48_000) -> Path:
    """Write a sound as one of the kinds above, whatever the name of the path; a tone of one second if none is given."""
    sound = tone(rate_hz=rate_hz) if sound is None else sound
    if kind in LIBSNDFILE:
        container, subtype = LIBSNDFILE[kind]
        soundfile.write(path, sound, rate_hz, format=container, subtype=subtype)
    else:
        _write_by_ffmpeg(path, kind, sound, rate_hz)
    return path


def _write_by_ffmpeg(path: Path, kind: str, sound: NDArray[np.float32], rate_hz: int) -> None:
    container, codec, options = FFMPEG[kind]
    layout = "mono" if sound.shape[1] == 1 else "stereo"
    with av.open(str(path), "w", format=container, options=options) as file:
        stream = file.add_stream(codec, rate=rate_hz, layout=layout)
        for start in range(0, len(sound), 960):
            frame = av.AudioFrame.from_ndarray(
                np.ascontiguousarray(sound[start : start + 960].T), format="fltp", layout=layout
            )
            frame.sample_rate, frame.pts = rate_hz, start
            file.mux(stream.encode(frame))
        file.mux(stream.encode(None))


def wav(
    data: bytes, *, data_length: int | None = None, before: bytes = b"", after: bytes = b"", rate_hz: int = 16_000
) -> bytes:
    """A mono 16-bit WAV put together by hand. data_length: what the header claims, if not the truth."""
    fmt = struct.pack("<4sIHHIIHH", b"fmt ", 16, 1, 1, rate_hz, 2 * rate_hz, 2, 16)
    body = fmt + before + struct.pack("<4sI", b"data", len(data) if data_length is None else data_length) + data + after
    return struct.pack("<4sI4s", b"RIFF", 4 + len(body), b"WAVE") + body
