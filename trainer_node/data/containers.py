"""What kind of sound file this is, and whether all of it is there: read from the file's own framing.

Decoders forgive: libsndfile reads half of a cut WAV or Ogg, and mpg123 the first frames of a cut MP3, without an error.
So the lengths that a file states are held against the bytes that exist before a decoder sees it. The kind is told from
the content; a name proves nothing, and probing by a decoder would let a text file name other files to open.

A length that was never written (a WAV or WebM streamed through a pipe) cannot be checked, so such a file is refused.
What framing cannot show: an MP3 without a Xing header, or a raw AAC, that was cut exactly between two frames.
"""

from __future__ import annotations

import os
import struct
import zlib
from collections.abc import Iterator
from enum import StrEnum

from trainer_node.data.mpeg_frames import adts_frame, check_aac, check_mp3, mp3_frame
from trainer_node.data.refusals import AGAIN, AudioRefused, bounded, damaged, ends_early, unstated

UNSTATED = 0xFFFFFFFF


class Container(StrEnum):
    """The kinds of files that are read."""

    WAV = "WAV"
    AIFF = "AIFF"
    FLAC = "FLAC"
    OGG = "Ogg"
    MP3 = "MP3"
    MP4 = "MP4"
    WEBM = "WebM"
    AAC = "AAC"


def identify(fd: int) -> tuple[Container, int]:
    """The kind of an open file and the offset where it begins behind ID3 tags. Raises AudioRefused for any other."""
    start = _after_tags(fd)
    head = os.pread(fd, 16, start)
    if start and head[:4] != b"fLaC" and mp3_frame(head) is None and adts_frame(head) is None:
        raise damaged("nothing that can be read follows its ID3 tag")
    if head[:4] in (b"RIFF", b"RIFX", b"RF64", b"BW64") and head[8:12] == b"WAVE":
        return Container.WAV, start
    if head[:4] == b"FORM" and head[8:12] in (b"AIFF", b"AIFC"):
        return Container.AIFF, start
    for magic, at, kind in (
        (b"fLaC", 0, Container.FLAC),
        (b"OggS", 0, Container.OGG),
        (b"ftyp", 4, Container.MP4),
        (b"\x1a\x45\xdf\xa3", 0, Container.WEBM),
    ):
        if head[at : at + 4] == magic:
            return kind, start
    if mp3_frame(head) is not None:
        return Container.MP3, start
    if adts_frame(head) is not None:
        return Container.AAC, start
    if not head:
        raise AudioRefused(f"the file is empty; {AGAIN}")
    raise AudioRefused("not a sound file that can be read; use wav, flac, ogg or mp3 (also m4a, webm, aac, aiff)")


def check_whole(fd: int, kind: Container, start: int) -> int | None:
    """The number of frames that the file states, if it does. Raises AudioRefused where some of the file is missing."""
    size = os.fstat(fd).st_size
    if kind is Container.WAV:
        return _check_wav(fd, size)
    if kind is Container.AIFF:
        return _check_aiff(fd, size)
    if kind is Container.FLAC:
        return _flac_frames(fd, start)
    if kind is Container.OGG:
        _check_ogg(fd, size)
    elif kind is Container.MP4:
        _check_mp4(fd, size)
    elif kind is Container.WEBM:
        _check_webm(fd, size)
    elif kind is Container.MP3:
        check_mp3(fd, size, start)
    else:
        check_aac(fd, size, start)
    return None


def _after_tags(fd: int) -> int:
    """Where the sound begins: behind ID3v2 tags and the zeros that some programs leave after them."""
    at, tags = 0, 0
    while (head := os.pread(fd, 10, at))[:3] == b"ID3" and len(head) == 10:
        tags += 1
        bounded(tags)
        size = 0
        for byte in head[6:10]:
            size = size << 7 | byte & 0x7F
        at += 10 + size + (10 if head[5] & 0x10 else 0)
    if at:
        zeros = os.pread(fd, 65536, at)
        at += len(zeros) - len(zeros.lstrip(b"\0"))
    return at


def chunks(fd: int, size: int, order: str) -> Iterator[tuple[bytes, int, int]]:
    """(id, offset of the body, stated length) of an IFF file's chunks; odd lengths are padded by a byte."""
    at, pieces = 12, 0
    while at + 8 <= size:
        pieces += 1
        bounded(pieces)
        name, length = struct.unpack(order + "4sI", os.pread(fd, 8, at))
        yield name, at + 8, length
        at += 8 + length + length % 2


def _check_wav(fd: int, size: int) -> int | None:
    magic = os.pread(fd, 4, 0)
    order = ">" if magic == b"RIFX" else "<"
    format_body, data_length = b"", None
    for name, at, length in chunks(fd, size, order):
        if name == b"fmt ":
            format_body = os.pread(fd, min(length, 40), at)
        elif name == b"ds64":
            body = os.pread(fd, 16, at)
            data_length = struct.unpack("<8xQ", body)[0] if len(body) == 16 else None
        elif name == b"data":
            if length == UNSTATED and magic in (b"RF64", b"BW64") and data_length is not None:
                length = data_length
            if length == UNSTATED or (length == 0 and at < size):
                raise unstated("WAV")
            if at + length > size:
                raise ends_early(f"{size - at:,} of {length:,} bytes of sound are there")
            return _pcm_frames(format_body, order, length)
    raise ends_early("its header announces sound that is not there")


def _pcm_frames(format_body: bytes, order: str, data_length: int) -> int | None:
    """Frames in a `data` chunk, where each takes the same number of bytes; None for compressed WAVs."""
    if len(format_body) < 16:
        raise damaged("it does not say how its sound is stored")
    tag, _, _, _, block_bytes, _ = struct.unpack(order + "HHIIHH", format_body[:16])
    if tag == 0xFFFE and len(format_body) >= 26:  # WAVE_FORMAT_EXTENSIBLE: the real tag opens the sub-format
        tag = struct.unpack(order + "H", format_body[24:26])[0]
    if tag not in (1, 3, 6, 7):  # PCM, float, A-law, µ-law
        return None
    if block_bytes == 0:
        raise damaged("its header gives a sample no bytes")
    return int(data_length // block_bytes)


def _check_aiff(fd: int, size: int) -> int | None:
    frames: int | None = None
    for name, at, length in chunks(fd, size, ">"):
        if name == b"COMM" and length >= 6:
            body = os.pread(fd, 6, at)
            frames = struct.unpack(">2xI", body)[0] if len(body) == 6 else None
        if name == b"SSND":
            if at + length > size:
                raise ends_early(f"{size - at:,} of {length:,} bytes of sound are there")
            return frames
    raise ends_early("its header announces sound that is not there")


def _flac_frames(fd: int, start: int) -> int:
    """Frames by STREAMINFO (RFC 9639 §8.2). Whether they are all there only decoding shows."""
    body = os.pread(fd, 26, start)
    if len(body) < 26 or body[4] & 0x7F != 0:
        raise ends_early("its header is not whole")
    frames = int.from_bytes(body[21:26], "big") & 0xF_FFFF_FFFF
    if frames == 0:
        raise unstated("FLAC")
    return frames


def _check_ogg(fd: int, size: int) -> None:
    """One stream of whole pages, each with the checksum that it states, numbered without a gap, the last one marked as
    the last (RFC 3533 §6). libogg drops a page that is damaged and says nothing."""
    at, number, ended = 0, 0, False
    while at < size:
        bounded(number)
        head = os.pread(fd, 27 + 255, at)
        if head[:4] != b"OggS" and len(head) >= 4:
            raise damaged(f"byte {at:,} does not begin a page")
        if len(head) < 27 or len(head) < 27 + head[26]:
            raise ends_early(f"page {number} is cut")
        flags, sequence = head[5], struct.unpack("<I", head[18:22])[0]
        if flags & 2 and number:
            raise AudioRefused("the Ogg file holds several streams; export one of them alone")
        if sequence != number:
            raise damaged(f"page {number} is missing")
        length = 27 + head[26] + sum(head[27 : 27 + head[26]])
        if at + length > size:
            raise ends_early(f"page {number} is cut")
        page = os.pread(fd, length, at)
        if _ogg_checksum(page[:22] + bytes(4) + page[26:]) != page[22:26]:
            raise damaged(f"page {number} does not have its checksum")
        at += length
        number += 1
        ended = bool(flags & 4)
    if not ended:
        raise ends_early("its last page is missing")


_MIRRORED = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))


def _ogg_checksum(page: bytes) -> bytes:
    """The CRC of RFC 3533: zlib's polynomial, but with the bits of each byte the other way round and no inversion."""
    mirrored = zlib.crc32(page.translate(_MIRRORED), 0xFFFFFFFF) ^ 0xFFFFFFFF
    return mirrored.to_bytes(4, "big").translate(_MIRRORED)


def _check_mp4(fd: int, size: int) -> None:
    """Whole top-level boxes, the index (`moov`) among them (ISO/IEC 14496-12 §4.2)."""
    at, pieces, indexed = 0, 0, False
    while at < size:
        pieces += 1
        bounded(pieces)
        head = os.pread(fd, 16, at)
        if len(head) < 8:
            raise ends_early("a box is cut")
        length, name = struct.unpack(">I4s", head[:8])
        if length == 1 and len(head) == 16:
            length = struct.unpack(">8xQ", head)[0]
        elif length == 0:
            length = size - at
        if length < 8:
            raise damaged("a box is shorter than its own header")
        indexed = indexed or name == b"moov"
        at += length
    if at > size:
        raise ends_early(f"{size:,} of {at:,} bytes are there")
    if not indexed:
        raise ends_early("its index is missing")


def _check_webm(fd: int, size: int) -> None:
    """A Segment whose stated length is there (RFC 8794 §6, RFC 9559)."""
    header = _ebml_length(os.pread(fd, 8, 4))
    if header is None:
        raise damaged("its header is not readable")
    at = 4 + header[1] + header[0]
    body = os.pread(fd, 12, at)
    if len(body) < 12:
        raise ends_early("there is no sound in it")
    segment = _ebml_length(body[4:]) if body[:4] == b"\x18\x53\x80\x67" else None
    if segment is None:
        raise damaged("its header is not followed by a segment")
    length, width = segment
    if length == (1 << 7 * width) - 1:
        raise unstated("WebM")
    if at + 4 + width + length > size:
        raise ends_early(f"{size:,} of {at + 4 + width + length:,} bytes are there")


def _ebml_length(data: bytes) -> tuple[int, int] | None:
    """(value, bytes it takes) of a variable-size integer."""
    if not data or not data[0]:
        return None
    width = 9 - data[0].bit_length()
    if len(data) < width:
        return None
    return int.from_bytes(data[:width], "big") & ((1 << 7 * width) - 1), width
