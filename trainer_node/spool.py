"""The spool: a job's numbered events on disk, each durable before anyone can read it.

`events.log` holds records one after another; `events.head` holds the length up to which they are fsynced, and readers
never look beyond it. One writer at a time, guarded by a lock on `events.lock`: the training process while it lives,
then the node service, which goes on where the process stopped. Taking the lock recovers: records beyond the head that
are whole are kept (they were written, perhaps not announced), the torn tail behind them is cut off. So the numbers
1, 2, 3, … have no gap and no double, whatever is killed and whenever.
"""

from __future__ import annotations

import collections
import errno
import os
import threading
import time
from bisect import bisect_right
from collections.abc import Iterator
from pathlib import Path

from trainer_node.durable import AlreadyHeld, fsync_folder, take_lock
from trainer_node.errors import DiskFull
from trainer_node.spool_records import MAX_EVENT_BYTES, encode_head, encode_record, recover, whole_records
from tunesmith.v1 import job_event_pb2

GROUP_S = 0.03  # at most one fsync in this time: an event is visible 30 ms after it happened, or sooner
GROUP_EVENTS = 512  # or one per this many events
MAX_PENDING_BYTES = 64 << 20  # above this an append waits for the disk
RESERVE_BYTES = 1 << 20  # kept aside so that the end of a job can be written on a full disk
_MARK_EVERY_BYTES = 1 << 16


SpoolBusy = AlreadyHeld
"""Another process is writing this spool."""


class SpoolWriter:
    """Appends events from any thread. A background thread writes them in groups, fsyncs, then announces them."""

    def __init__(self, folder: Path) -> None:
        """Take over the spool in `folder`, creating it if needed. Raises SpoolBusy while another process has it."""
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._lock = take_lock(folder / "events.lock")
        self._log = os.open(folder / "events.log", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        self._head = os.open(folder / "events.head", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        self._durable_bytes, self._durable_seq = recover(self._log)
        self._next_seq = self._durable_seq + 1
        try:
            self._publish()
        except OSError:  # a disk that the job's inputs have filled: its end is what the reserve is for
            self._release_reserve()
            self._publish()
        reserve(folder)
        fsync_folder(folder)
        self._pending: list[bytes] = []
        self._pending_bytes = 0
        self._failure: OSError | None = None
        self._hurry = self._closing = False
        self._changed = threading.Condition()
        self._flusher = threading.Thread(target=self._flush_in_groups, name="spool", daemon=True)
        self._flusher.start()

    @property
    def last_seq(self) -> int:
        """Number of the last event appended, durable or not."""
        return self._next_seq - 1

    def append(self, event: job_event_pb2.JobEvent) -> int:
        """Number (and, unless it has a time, time) `event` in place and queue it; returns its number at once.

        Raises DiskFull once a write has failed, ValueError for an event above MAX_EVENT_BYTES.
        """
        _set_time(event)
        with self._changed:
            while self._pending_bytes > MAX_PENDING_BYTES and not self._failure:
                self._changed.wait()
            self._raise_failure()
            if self._closing:
                raise ValueError("the spool is closed")
            record = encode_record(event, self._next_seq)
            self._next_seq += 1
            self._pending.append(record)
            self._pending_bytes += len(record)
            if len(self._pending) in (1, GROUP_EVENTS):
                self._changed.notify_all()
            return event.seq

    def flush(self) -> None:
        """Wait until everything appended so far is durable. Raises DiskFull."""
        with self._changed:
            target = self._next_seq - 1
            self._hurry = True
            self._changed.notify_all()
            while self._durable_seq < target and not self._failure:
                self._changed.wait()
            self._raise_failure()

    def finish(self, event: job_event_pb2.JobEvent) -> int:
        """Write the last event, behind all that was appended, and close. Returns its number.

        On a full disk the reserve makes room; if even that is too little, events that nobody has seen yet are given up
        for the end's sake, and it takes their number. Raises DiskFull when the end itself does not fit.
        """
        _set_time(event)
        self._stop_flusher()
        written = self._try_finish(event)
        if not written:
            self._release_reserve()
            written = self._try_finish(event)
        if not written:
            self._pending.clear()
            written = self._try_finish(event)
        self._close_files()
        if not written:
            self._raise_failure()
        self._release_reserve()
        return event.seq

    def _try_finish(self, event: job_event_pb2.JobEvent) -> bool:
        end = encode_record(event, self._durable_seq + len(self._pending) + 1)
        try:
            self._write([*self._pending, end])
        except OSError as error:
            self._failure = error
            return False
        self._next_seq = event.seq + 1
        return True

    def close(self) -> None:
        """Make everything durable and let go of the spool. Raises DiskFull where that is not possible."""
        if self._closing:
            return
        try:
            self.flush()
        finally:
            self._stop_flusher()
            self._close_files()

    def _stop_flusher(self) -> None:
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        self._flusher.join()

    def _close_files(self) -> None:
        for file in (self._log, self._head, self._lock):
            os.close(file)

    def _flush_in_groups(self) -> None:
        last_flush = 0.0
        while True:
            with self._changed:
                while not self._pending and not self._closing:
                    self._changed.wait()
                while not (self._closing or self._hurry or len(self._pending) >= GROUP_EVENTS):
                    rest = last_flush + GROUP_S - time.monotonic()
                    if rest <= 0:
                        break
                    self._changed.wait(rest)
                group = list(self._pending)
                self._hurry = False
                if not group or self._failure:
                    return
            last_flush = time.monotonic()
            try:
                self._write(group)
                failure = None
            except OSError as error:
                failure = error
            with self._changed:
                self._failure = failure
                if failure is None:
                    del self._pending[: len(group)]
                    self._pending_bytes -= sum(map(len, group))
                self._changed.notify_all()
                if failure is not None:
                    return

    def _write(self, records: list[bytes]) -> None:
        """Make records durable, then visible; a failure leaves the log as it was."""
        block = memoryview(b"".join(records))
        written = 0
        try:
            while written < len(block):
                written += os.pwrite(self._log, block[written:], self._durable_bytes + written)
            os.fdatasync(self._log)
        except OSError:
            # What reached the disk of a failed write is unknown, so none of it counts.
            os.ftruncate(self._log, self._durable_bytes)
            raise
        self._durable_bytes += len(block)
        self._durable_seq += len(records)
        self._publish()

    def _publish(self) -> None:
        os.pwrite(self._head, encode_head(self._durable_bytes), 0)

    def _release_reserve(self) -> None:
        (self._folder / "reserve").unlink(missing_ok=True)

    def _raise_failure(self) -> None:
        if self._failure is None:
            return
        full = self._failure.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
        what = "there is no room" if full else f"the disk failed ({self._failure.strerror})"
        raise DiskFull(f"{what} for the events of the job under {self._folder}; free some space there")


class SpoolReader:
    """Reads durable events by number. Keeps marks, so that following a live spool never reads anything twice.

    Safe to share between threads; works before the spool exists (then it is empty).
    """

    def __init__(self, folder: Path) -> None:
        self._log_path, self._head_path = folder / "events.log", folder / "events.head"
        self._lock = threading.Lock()
        self._marks: list[tuple[int, int]] = [(0, 0)]  # (number of the event before, offset), sparse and ascending
        self._end = (0, 0)  # the furthest known position
        self._log: int | None = None

    def close(self) -> None:
        """Let go of the file."""
        with self._lock:
            if self._log is not None:
                os.close(self._log)
            self._log = None

    def durable_bytes(self) -> int:
        """The announced length: a cheap question (one small read) that changes whenever there are new events."""
        for _ in range(100):
            try:
                head = self._head_path.read_bytes()
            except FileNotFoundError:
                return 0
            if not head:
                return 0
            length = int.from_bytes(head[:8], "little")
            if head == encode_head(length):
                return length
            time.sleep(0)  # caught between the two halves of a write; the next look sees it whole
        raise OSError(errno.EIO, f"{self._head_path} is damaged")

    def last_seq(self) -> int:
        """Number of the last durable event; 0 for none."""
        with self._lock:
            durable = self._fresh_durable()
            collections.deque(self._scan(*self._end, durable), maxlen=0)
            return self._end[0]

    def read(self, after_seq: int, max_bytes: int = MAX_EVENT_BYTES) -> list[job_event_pb2.JobEvent]:
        """The durable events after number `after_seq`, at most about `max_bytes` of them but at least one if any."""
        with self._lock:
            durable = self._fresh_durable()
            events: list[job_event_pb2.JobEvent] = []
            size = 0
            for payload, seq in self._scan(*self._nearest(after_seq), durable):
                if seq <= after_seq:
                    continue
                size += len(payload)
                if events and size > max_bytes:
                    break
                events.append(job_event_pb2.JobEvent.FromString(payload))
            return events

    def last_event(self) -> job_event_pb2.JobEvent | None:
        """The last durable event."""
        last = self.last_seq()
        return self.read(last - 1)[0] if last else None

    def _fresh_durable(self) -> int:
        durable = self.durable_bytes()
        if durable < self._end[1]:  # only after damage was cut off: forget what was known beyond
            self._marks, self._end = [(0, 0)], (0, 0)
        return durable

    def _nearest(self, after_seq: int) -> tuple[int, int]:
        if self._end[0] <= after_seq:
            return self._end
        return self._marks[bisect_right(self._marks, after_seq, key=lambda mark: mark[0]) - 1]

    def _scan(self, seq: int, offset: int, durable: int) -> Iterator[tuple[bytes, int]]:
        """(payload, number) of the records after a position; remembers marks and the furthest position on its way."""
        if offset >= durable:
            return
        if self._log is None:
            self._log = os.open(self._log_path, os.O_RDONLY | os.O_CLOEXEC)
        for payload, number, behind in whole_records(self._log, offset, durable):
            if number != seq + 1:
                break
            seq, offset = number, behind
            if offset - self._marks[-1][1] >= _MARK_EVERY_BYTES:
                self._marks.append((seq, offset))
            if offset > self._end[1]:
                self._end = (seq, offset)
            yield payload, seq
        if offset < durable:
            raise OSError(errno.EIO, f"{self._log_path} is damaged behind event {seq}")


def _set_time(event: job_event_pb2.JobEvent) -> None:
    if not event.HasField("time"):
        event.time.FromNanoseconds(time.time_ns())


def reserve(folder: Path) -> None:
    """Take room for the end of the job; a disk too full for that is one the first events will report."""
    path = folder / "reserve"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with path.open("ab") as file:
            os.posix_fallocate(file.fileno(), 0, RESERVE_BYTES)
    except OSError:
        path.unlink(missing_ok=True)
