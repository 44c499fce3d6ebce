"""A process's output files as log events, from any offset on.

Every byte becomes part of exactly one line of exactly one event, or is counted as left out where a training prints more
than log_budget allows. Each event says where in the file it ends: so the training process follows its own output while
it lives, and the node service reads on where it stopped.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

from trainer_node.log_budget import LogBudget, left_out
from tunesmith.v1 import job_event_pb2

MAX_LINE_BYTES = 16 << 10
MAX_BATCH_BYTES = 256 << 10
MAX_BATCH_LINES = 512
KEPT_AT_END_BYTES = 64 << 10  # of a file, whatever was printed before


class LogFollower:
    """Reads one output file as LogBatch messages, from `offset` on. The file may still be growing, or not exist yet.

    budget: what goes beyond it is left out, with a line that says how much; the last lines of the file never are.
    """

    def __init__(
        self, path: Path, stream: job_event_pb2.LogStream, offset: int = 0, *, budget: LogBudget | None = None
    ) -> None:
        self._path, self._stream, self._offset = path, stream, offset
        self._budget = budget or LogBudget()
        self._skipped_bytes = self._skipped_lines = 0

    def read(self, *, final: bool = False) -> Iterator[job_event_pb2.LogBatch]:
        """Lines that came since; one without its end waits for it, except when it is overlong or the read `final`.

        Ends at what is there now: a process that prints without pause holds nobody up.
        """
        end = self._size()
        last = end - KEPT_AT_END_BYTES  # held back when lines are left out: they may be the last words
        while block := self._block(end):
            if not self._budget.allows() and not (final and self._offset >= last):
                if not self._skip(block, last):
                    break
            elif batch := self._batch(block, final and self._offset + len(block) == end):
                if self._skipped_bytes:
                    batch.lines.insert(0, left_out(self._skipped_bytes, self._skipped_lines))
                yield batch
                self._budget.spend(batch.lines)
                self._offset = batch.end_offset  # only now: a batch that the reader could not take is read again
                self._skipped_bytes = self._skipped_lines = 0
            else:
                break

    def _size(self) -> int:
        try:
            return self._path.stat().st_size
        except FileNotFoundError:
            return 0

    def _block(self, end: int) -> bytes:
        if self._offset >= end:
            return b""
        with self._path.open("rb") as file:
            file.seek(self._offset)
            return file.read(min(MAX_BATCH_BYTES, end - self._offset))

    def _skip(self, block: bytes, last: int) -> bool:
        """Pass over `block` up to the offset `last`, by whole lines where it has any; False where that is reached."""
        block = block[: max(0, last - self._offset)]
        length = block.rfind(b"\n") + 1 or len(block)
        self._skipped_lines += block.count(b"\n", 0, length)
        self._skipped_bytes += length
        self._offset += length
        return length > 0

    def _batch(self, block: bytes, at_end: bool) -> job_event_pb2.LogBatch | None:
        """The lines of `block` that are complete (or forced), at most MAX_BATCH_LINES."""
        lines: list[str] = []
        at = 0
        while at < len(block) and len(lines) < MAX_BATCH_LINES:
            end = block.find(b"\n", at, at + MAX_LINE_BYTES + 1)
            if end >= 0:
                piece, behind = block[at:end].removesuffix(b"\r"), end + 1
            elif len(block) - at > MAX_LINE_BYTES:
                behind = _cut(block, at)
                piece = block[at:behind]
            elif at_end:
                piece, behind = block[at:], len(block)
            else:
                break
            lines += _texts(piece)
            at = behind
        if not at:
            return None
        now_us = time.time_ns() // 1000
        return job_event_pb2.LogBatch(stream=self._stream, lines=lines, end_offset=self._offset + at, time_us=now_us)


def follow_outputs(stdout: Path, stderr: Path, ends: dict[int, int]) -> tuple[LogFollower, LogFollower]:
    """Followers of both output files. ends: the offset reached so far by stream; 0 where it is not named."""
    streams = (job_event_pb2.LOG_STREAM_STDOUT, stdout), (job_event_pb2.LOG_STREAM_STDERR, stderr)
    first, second = (LogFollower(path, stream, ends.get(stream, 0)) for stream, path in streams)
    return first, second


def tail(path: Path, limit_bytes: int = 8 << 10) -> str:
    """The last whole lines of a file, at most `limit_bytes` of UTF-8."""
    try:
        with path.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - limit_bytes))
            block = file.read(limit_bytes)
    except FileNotFoundError:
        return ""
    if size > len(block) and b"\n" in block[:-1]:
        block = block[block.index(b"\n") + 1 :]
    text = _clean(block)
    while len(text.encode()) > limit_bytes:  # each replaced byte takes three
        text = text[len(text) // 8 + 1 :]
    return text


def _cut(block: bytes, at: int) -> int:
    """Where to cut an overlong line: at the limit, but not within a character."""
    end = at + MAX_LINE_BYTES
    for back in range(4):
        if block[end - back] & 0xC0 != 0x80:
            return end - back
    return end


def _texts(piece: bytes) -> list[str]:
    """A line as text, in parts where replacing its bytes made it overlong."""
    text = _clean(piece)
    if len(text.encode()) <= MAX_LINE_BYTES:
        return [text]
    step = MAX_LINE_BYTES // 4
    return [text[start : start + step] for start in range(0, len(text), step)]


def _clean(data: bytes) -> str:
    return data.decode(errors="replace").replace("\0", "\ufffd")
