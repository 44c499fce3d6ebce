"""Decode sound in blocks: libsndfile for wav, aiff, flac, ogg and mp3, FFmpeg (PyAV) for m4a, webm and aac.

A block is small whatever the header claims, so memory is bounded by whoever collects the blocks. FFmpeg is told the
container and is given an open file, never a path: probing would take a playlist for a sound file and open what it
names.
"""

from __future__ import annotations

import io
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain
from typing import Any, BinaryIO

import numpy as np
import soundfile
from numpy.typing import NDArray

from trainer_node.data.containers import Container
from trainer_node.data.refusals import AGAIN, AudioRefused

BLOCK_FRAMES = 65_536
_FFMPEG_FORMATS = {Container.MP4: "mp4", Container.WEBM: "matroska", Container.AAC: "aac"}
_FFMPEG_CODECS = {"aac", "alac", "flac", "mp3", "opus", "vorbis"}


@dataclass(frozen=True)
class Decoder:
    """An opened sound file. frames: as libsndfile counts them. blocks: float32 [frames, channels], to be read once."""

    sample_rate_hz: int
    channels: int
    frames: int | None
    blocks: Iterator[NDArray[np.float32]]


@contextmanager
def open_decoder(fd: int, kind: Container, start: int) -> Iterator[Decoder]:
    """Read an open file of a known kind whose sound begins at byte `start`.

    Raises AudioRefused, also from the blocks, where it cannot be decoded.
    """
    read = _by_ffmpeg if kind in _FFMPEG_FORMATS else _by_libsndfile
    with io.BufferedReader(_From(fd, start)) as file, read(file, kind) as decoder:
        yield decoder


class _From(io.RawIOBase):
    """An open file as if it began at `start`: decoders stumble over some of the tags in front of a sound."""

    def __init__(self, fd: int, start: int) -> None:
        self._fd, self._start, self._at = fd, start, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        count = os.preadv(self._fd, [buffer], self._start + self._at)
        self._at += count
        return count

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        origins = {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: os.fstat(self._fd).st_size - self._start}
        self._at = max(0, origins[whence] + offset)
        return self._at


def _undecodable(kind: Container) -> AudioRefused:
    return AudioRefused(
        f"the file is damaged or ends early: it begins like {kind} but cannot be decoded to its end; {AGAIN}"
    )


@contextmanager
def _by_libsndfile(stream: BinaryIO, kind: Container) -> Iterator[Decoder]:
    def blocks() -> Iterator[NDArray[np.float32]]:
        while True:
            try:
                block = file.read(BLOCK_FRAMES, dtype="float32", always_2d=True)
            except soundfile.SoundFileError as error:
                raise _undecodable(kind) from error
            if not len(block):
                return
            yield block

    try:
        file = soundfile.SoundFile(stream)
    except soundfile.SoundFileError as error:
        raise _undecodable(kind) from error
    with file:
        yield Decoder(file.samplerate, file.channels, file.frames, blocks())


@contextmanager
def _by_ffmpeg(file: BinaryIO, kind: Container) -> Iterator[Decoder]:
    import av  # FFmpeg, which few files need

    try:
        container = av.open(file, mode="r", format=_FFMPEG_FORMATS[kind], metadata_errors="replace")
    except (av.FFmpegError, ValueError) as error:
        raise _undecodable(kind) from error
    with container:
        if not container.streams.audio:
            raise AudioRefused("there is no sound in the file; give one with an audio track")
        stream = container.streams.audio[0]
        if stream.codec_context is None:  # FFmpeg knows no decoder of that kind
            raise _undecodable(kind)
        codec = stream.codec_context.codec.canonical_name
        if codec not in _FFMPEG_CODECS and not codec.startswith("pcm_"):
            raise AudioRefused(f"the sound is coded as {codec}, which is not read; export it as wav, flac, ogg or mp3")
        stream.codec_context.thread_count = 1
        yield _ffmpeg_decoder(container, stream, kind)


def _ffmpeg_decoder(container: Any, stream: Any, kind: Container) -> Decoder:
    import av

    def frames() -> Iterator[Any]:
        try:
            yield from container.decode(stream)
        except (av.FFmpegError, ValueError) as error:
            raise _undecodable(kind) from error

    def blocks() -> Iterator[NDArray[np.float32]]:
        resampler = av.AudioResampler(format="flt", layout=first.layout, rate=first.rate)
        for frame in chain([first], decoded, [None]):
            if frame is not None and (frame.rate, frame.layout.nb_channels) != (first.rate, channels):
                raise AudioRefused("the sound changes its rate or its channels midway; export it again")
            for packed in resampler.resample(frame):
                yield packed.to_ndarray().astype(np.float32, copy=False).reshape(-1, channels)

    decoded = frames()
    first: Any = next(decoded, None)
    if first is None:
        raise AudioRefused(f"there is no sound in the file: 0 samples; {AGAIN}")
    channels = first.layout.nb_channels
    return Decoder(first.rate, channels, None, blocks())
