"""MP3 and raw AAC: no container, only one frame after the other, each of which says how long it is."""

from __future__ import annotations

import os
import struct

from trainer_node.data.refusals import bounded, damaged, ends_early

_BITRATES_1 = (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320)
_BITRATES_2 = (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160)


def mp3_frame(head: bytes) -> tuple[int, int] | None:
    """(bytes, offset of a Xing header) of the MPEG layer III frame that begins here, or None (ISO/IEC 11172-3 §2.4)."""
    if len(head) < 4 or head[0] != 0xFF or head[1] & 0xE6 != 0xE2:
        return None
    version, bitrate, rate = head[1] >> 3 & 3, head[2] >> 4, head[2] >> 2 & 3
    if version == 1 or bitrate in (0, 15) or rate == 3:
        return None
    rate_hz = (44100, 48000, 32000)[rate] >> {3: 0, 2: 1, 0: 2}[version]
    mono = head[3] >> 6 == 3
    if version == 3:
        return 144_000 * _BITRATES_1[bitrate] // rate_hz + (head[2] >> 1 & 1), 4 + (17 if mono else 32)
    return 72_000 * _BITRATES_2[bitrate] // rate_hz + (head[2] >> 1 & 1), 4 + (9 if mono else 17)


def check_mp3(fd: int, size: int, start: int) -> None:
    """Whole frames up to the end or to a closing tag, as many as a Xing header announces. Raises AudioRefused."""
    first = mp3_frame(os.pread(fd, 4, start))
    assert first is not None, "identify saw a frame here"
    xing = os.pread(fd, 16, start + first[1])
    announced = _xing(xing)
    at, frames = start, 0
    while at < size:
        bounded(frames)
        head = os.pread(fd, 12, at)
        frame = mp3_frame(head)
        if frame is None:
            if head[:3] == b"TAG" or head[:8] in (b"APETAGEX", b"LYRICSBE") or not head.strip(b"\0"):
                break
            raise ends_early(f"frame {frames} is cut") if len(head) < 4 else damaged(f"byte {at:,} begins no frame")
        if at + frame[0] > size:
            raise ends_early(f"frame {frames} is cut")
        at += frame[0]
        frames += 1
    if announced is None:
        return
    missing = announced[0] - (frames - 1)  # most programs leave the frame with the header out, some count it
    if missing > 1 or (missing == 1 and announced[1] > at - start):
        raise ends_early(f"{frames - 1:,} of {announced[0]:,} frames are there")


def _xing(data: bytes) -> tuple[int, int] | None:
    """(frames, bytes) that a Xing or Info header announces; None where there is none or it gives no frames."""
    if data[:4] not in (b"Xing", b"Info") or len(data) < 16:
        return None
    flags, frames, length = struct.unpack(">4xIII", data)
    return (frames, length if flags & 2 else 0) if flags & 1 else None


def adts_frame(head: bytes) -> int | None:
    """Bytes of the AAC frame that begins here, or None (ISO/IEC 13818-7 §6.2)."""
    if len(head) < 7 or head[0] != 0xFF or head[1] & 0xF6 != 0xF0:
        return None
    length = (head[3] & 3) << 11 | head[4] << 3 | head[5] >> 5
    return length if length >= 7 else None


def check_aac(fd: int, size: int, start: int) -> None:
    """Whole frames up to the end or to a closing tag. Raises AudioRefused."""
    at, frames = start, 0
    while at < size:
        bounded(frames)
        head = os.pread(fd, 7, at)
        length = adts_frame(head)
        if length is None:
            if head[:3] == b"TAG":
                return
            raise ends_early(f"frame {frames} is cut") if len(head) < 7 else damaged(f"byte {at:,} begins no frame")
        if at + length > size:
            raise ends_early(f"frame {frames} is cut")
        at += length
        frames += 1
