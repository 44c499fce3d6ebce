"""Sound files, checked and read. `inspect_audio` decides whether a clip may enter a data set; `read_audio` gives it to
an engine.

Nothing that a header claims is believed or allocated: lengths are held against the file (containers.py), then against
what comes out of the decoder, block by block. Half an hour of silence is 327 KiB of FLAC and 659 MiB of samples; here
it costs one block. Memory: `inspect_audio` needs a few blocks, `read_audio` its result twice over.
"""

from __future__ import annotations

import math
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soxr
from numpy.typing import NDArray

from trainer_node.data.containers import Container, check_whole, identify
from trainer_node.data.decode import Decoder, open_decoder
from trainer_node.data.refusals import AudioRefused, ends_early

__all__ = ["MAX_FILE_BYTES", "MAX_S", "AudioFacts", "AudioRefused", "inspect_audio", "read_audio"]

MAX_S = 600.0
MAX_CHANNELS = 2
MIN_RATE_HZ, MAX_RATE_HZ = 8_000, 192_000
MAX_FILE_BYTES = 2 << 30  # MAX_S of stereo at MAX_RATE_HZ in 64-bit floats take 1.7 GiB
MAX_PEAK = 16.0  # full scale is 1; integers stored as floats by mistake reach 32768


@dataclass(frozen=True)
class AudioFacts:
    """What was measured by decoding a file to its end."""

    duration_s: float
    sample_rate_hz: int
    channels: int


def inspect_audio(path: Path, *, max_s: float = MAX_S) -> AudioFacts:
    """Decode a file to its end and measure it. Silence is fine.

    Raises AudioRefused, whose message says what is wrong and what to do, for: a path that is no readable file; a file
    that is no sound, empty, cut, damaged, or of unstated length; more than `max_s` seconds; more than 2 channels; a
    rate outside 8 to 192 kHz; samples that are not finite or far above full scale.
    """
    with _opened(path) as (decoder, stated):
        limit = math.floor(max_s * decoder.sample_rate_hz)
        if stated is not None and stated > limit:
            raise _too_long(stated / decoder.sample_rate_hz, max_s)
        frames = 0
        for block in _sound(decoder):
            frames += len(block)
            if frames > limit:
                raise _too_long(frames / decoder.sample_rate_hz, max_s)
        _require_all(frames, stated)
        return AudioFacts(frames / decoder.sample_rate_hz, decoder.sample_rate_hz, decoder.channels)


def read_audio(path: Path, *, sample_rate_hz: int, channels: int, max_s: float) -> NDArray[np.float32]:
    """The first `max_s` seconds (or less, where the file is shorter) as float32 [channels, N] at `sample_rate_hz`.

    channels: 1 (stereo is averaged) or 2 (mono is doubled). Resampled by soxr at its quality HQ. The same file gives
    the same samples wherever the libraries are of the same versions. Raises AudioRefused as `inspect_audio` does, but
    a file may be longer than `max_s`: what comes later is not decoded.
    """
    with _opened(path) as (decoder, stated):
        wanted = round(max_s * decoder.sample_rate_hz)
        mix = 1 if channels == 1 else decoder.channels
        resampler = soxr.ResampleStream(decoder.sample_rate_hz, sample_rate_hz, mix, dtype="float32", quality="HQ")
        parts, frames = [], 0
        for block in _sound(decoder):
            kept = block[: wanted - frames]
            frames += len(kept)
            kept = kept.mean(axis=1, keepdims=True, dtype=np.float32) if mix < decoder.channels else kept
            parts.append(_resample(resampler, kept, decoder.sample_rate_hz == sample_rate_hz))
            if frames >= wanted:
                break
        else:
            _require_all(frames, stated)
        if decoder.sample_rate_hz != sample_rate_hz:
            parts.append(resampler.resample_chunk(np.zeros((0, mix), np.float32), last=True))
    samples_NC = np.concatenate(parts)[: round(max_s * sample_rate_hz)]
    if mix < channels:
        samples_NC = np.repeat(samples_NC, channels, axis=1)
    return np.ascontiguousarray(samples_NC.T)


def _resample(resampler: soxr.ResampleStream, block: NDArray[np.float32], same_rate: bool) -> NDArray[np.float32]:
    resampled: NDArray[np.float32] = block if same_rate else resampler.resample_chunk(np.ascontiguousarray(block))
    return resampled


@contextmanager
def _opened(path: Path) -> Iterator[tuple[Decoder, int | None]]:
    """A decoder behind all checks that need no decoding, and the number of frames that the file states."""
    fd = _open(path)
    try:
        kind, start = identify(fd)
        stated = check_whole(fd, kind, start)
        with open_decoder(fd, kind, start) as decoder:
            if stated is None and kind is Container.OGG:
                stated = decoder.frames  # by the last page, which was seen to be there
            if not 1 <= decoder.channels <= MAX_CHANNELS:
                raise AudioRefused(f"the sound has {decoder.channels} channels; mix it down to {MAX_CHANNELS} or 1")
            if not MIN_RATE_HZ <= decoder.sample_rate_hz <= MAX_RATE_HZ:
                raise AudioRefused(
                    f"the sampling rate is {decoder.sample_rate_hz} Hz; "
                    f"resample it to between {MIN_RATE_HZ} and {MAX_RATE_HZ} Hz"
                )
            yield decoder, stated
    finally:
        os.close(fd)


def _open(path: Path) -> int:
    """A descriptor of a regular file; never waits, as opening a named pipe would."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except ValueError as error:
        raise AudioRefused("the path holds a NUL character; rename the file") from error
    except OSError as error:
        raise AudioRefused(f"the file cannot be opened ({error.strerror}); check its path and permissions") from error
    facts = os.fstat(fd)
    if not stat.S_ISREG(facts.st_mode) or facts.st_size > MAX_FILE_BYTES:
        os.close(fd)
        if not stat.S_ISREG(facts.st_mode):
            raise AudioRefused("not a file (a folder, pipe or device); give the path of a sound file")
        raise AudioRefused(f"the file has {facts.st_size:,} bytes, above {MAX_FILE_BYTES:,}; cut it into shorter clips")
    return fd


def _sound(decoder: Decoder) -> Iterator[NDArray[np.float32]]:
    """The blocks, each seen to hold sound; at least one."""
    frames = 0
    for block in decoder.blocks:
        peak = float(np.abs(block).max(initial=0.0))
        if not math.isfinite(peak):
            at = frames + int(np.argmin(np.isfinite(block).all(axis=1)))
            raise AudioRefused(
                f"a sample is not a number or infinite (at {at / decoder.sample_rate_hz:.3f} s); export the clip again"
            )
        if peak > MAX_PEAK:
            raise AudioRefused(f"samples reach {peak:g} where full scale is 1; export the clip again, normalised")
        frames += len(block)
        yield block
    if not frames:
        raise AudioRefused("there is no sound in the file: 0 samples; export the clip again")


def _require_all(frames: int, stated: int | None) -> None:
    if stated is not None and frames < stated:
        raise ends_early(f"{frames:,} of {stated:,} samples could be decoded")


def _too_long(duration_s: float, max_s: float) -> AudioRefused:
    return AudioRefused(f"the clip is longer than {max_s:g} s (at least {duration_s:.1f} s); cut it into shorter clips")
