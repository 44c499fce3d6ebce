"""Records of a spool: how one event lies in `events.log`, and what counts as whole.

A record: length of the payload (u32), CRC-32 of number and payload (u32), number (u64), a serialised JobEvent; all
little-endian. A length of zero is no record, so a tail of zeros (what a crash of the machine leaves) is torn.
`events.head`: the announced length (u64) and its CRC-32, so that a half-seen write is noticed.
"""

from __future__ import annotations

import os
import struct
import zlib
from collections.abc import Iterator

from tunesmith.v1 import job_event_pb2

MAX_EVENT_BYTES = 1 << 20  # an event must fit a frame of StreamJobEvents
BLOCK_BYTES = 1 << 16  # read at a time

_HEADER = struct.Struct("<IIQ")
_HEAD = struct.Struct("<QI")


def encode_record(event: job_event_pb2.JobEvent, seq: int) -> bytes:
    """Number `event` in place and make its record. Raises ValueError above MAX_EVENT_BYTES."""
    event.seq = seq
    payload = event.SerializeToString()
    if len(payload) > MAX_EVENT_BYTES:
        raise ValueError(f"an event of {len(payload)} bytes is above the limit of {MAX_EVENT_BYTES}; send it in parts")
    return _HEADER.pack(len(payload), _checksum(seq, payload), seq) + payload


def whole_records(log: int, offset: int, end: int) -> Iterator[tuple[bytes, int, int]]:
    """(payload, number, offset behind it) of every whole record from `offset` on; stops at the first that is not."""
    block, start = b"", offset
    while offset + _HEADER.size <= end:
        at = offset - start
        if at + _HEADER.size > len(block):
            block, start, at = os.pread(log, min(BLOCK_BYTES, end - offset), offset), offset, 0
            if len(block) < _HEADER.size:
                return
        length, checksum, seq = _HEADER.unpack_from(block, at)
        behind = offset + _HEADER.size + length
        if not 0 < length <= MAX_EVENT_BYTES or behind > end:
            return
        if behind - start > len(block):
            block, start, at = os.pread(log, max(BLOCK_BYTES, _HEADER.size + length), offset), offset, 0
        payload = block[at + _HEADER.size : at + _HEADER.size + length]
        if len(payload) < length or _checksum(seq, payload) != checksum:
            return
        offset = behind
        yield payload, seq, offset


def recover(log: int) -> tuple[int, int]:
    """Cut the torn tail off; returns the length of what is whole and the number of its last event."""
    size = os.fstat(log).st_size
    length = seq = 0
    for _, number, behind in whole_records(log, 0, size):
        if number != seq + 1:
            break
        seq, length = number, behind
    if length < size:
        os.ftruncate(log, length)
    os.fsync(log)
    return length, seq


def encode_head(length: int) -> bytes:
    """The content of `events.head` that announces `length` bytes."""
    return _HEAD.pack(length, zlib.crc32(length.to_bytes(8, "little")))


def _checksum(seq: int, payload: bytes) -> int:
    return zlib.crc32(payload, seq & 0xFFFFFFFF)
