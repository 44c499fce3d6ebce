"""The spool: gapless numbers, durable before visible, whatever is killed or torn."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trainer_node.errors import DiskFull
from trainer_node.spool import SpoolBusy, SpoolReader, SpoolWriter, reserve
from trainer_node.spool_records import MAX_EVENT_BYTES
from tunesmith.v1 import job_event_pb2


def log_event(text: str) -> job_event_pb2.JobEvent:
    return job_event_pb2.JobEvent(logs=job_event_pb2.LogBatch(lines=[text]))


def finished() -> job_event_pb2.JobEvent:
    return job_event_pb2.JobEvent(finished=job_event_pb2.JobFinished(cancelled=job_event_pb2.JobCancelled()))


def write(folder: Path, texts: list[str]) -> None:
    writer = SpoolWriter(folder)
    for text in texts:
        writer.append(log_event(text))
    writer.close()


def read_all(folder: Path, *, max_bytes: int = 4096) -> Iterator[job_event_pb2.JobEvent]:
    reader, after = SpoolReader(folder), 0
    while events := reader.read(after, max_bytes):
        yield from events
        after = events[-1].seq
    reader.close()


def test_a_reader_before_the_spool_exists_sees_nothing(tmp_path: Path) -> None:
    reader = SpoolReader(tmp_path / "spool")

    assert reader.last_seq() == 0
    assert reader.read(0) == []


def test_events_come_back_in_order_with_numbers_from_1_and_a_time(tmp_path: Path) -> None:
    write(tmp_path, [f"line {n}" for n in range(1000)])

    events = list(read_all(tmp_path))

    assert [event.seq for event in events] == list(range(1, 1001))
    assert [event.logs.lines[0] for event in events] == [f"line {n}" for n in range(1000)]
    assert all(event.HasField("time") for event in events)


def test_reading_after_any_number_gives_the_rest(tmp_path: Path) -> None:
    write(tmp_path, [f"{n}" * 300 for n in range(700)])
    reader = SpoolReader(tmp_path)
    whole = [event.SerializeToString() for event in reader.read(0, 10**9)]

    for after in [*range(0, 701, 13), 700, 3, 699, 350]:
        assert [event.SerializeToString() for event in reader.read(after, 10**9)] == whole[after:]
    assert reader.read(10_000) == []


def test_a_read_is_bounded_but_never_stuck_behind_a_large_event(tmp_path: Path) -> None:
    write(tmp_path, ["a" * 1000, "b" * 500_000, "c" * 1000])
    reader = SpoolReader(tmp_path)

    assert [event.seq for event in reader.read(0, 2000)] == [1]
    assert [event.seq for event in reader.read(1, 2000)] == [2]
    assert [event.seq for event in reader.read(2, 2000)] == [3]


def test_an_event_above_the_limit_is_refused_and_takes_no_number(tmp_path: Path) -> None:
    writer = SpoolWriter(tmp_path)

    with pytest.raises(ValueError, match="send it in parts"):
        writer.append(log_event("x" * (MAX_EVENT_BYTES + 1)))

    assert writer.append(log_event("y")) == 1
    writer.close()


def test_a_second_writer_is_refused_while_the_first_lives(tmp_path: Path) -> None:
    first = SpoolWriter(tmp_path)

    with pytest.raises(SpoolBusy):
        SpoolWriter(tmp_path)

    first.close()
    SpoolWriter(tmp_path).close()


def test_a_successor_goes_on_with_the_next_number(tmp_path: Path) -> None:
    write(tmp_path, ["one", "two"])
    write(tmp_path, ["three"])

    assert [(event.seq, event.logs.lines[0]) for event in read_all(tmp_path)] == [(1, "one"), (2, "two"), (3, "three")]


def test_many_threads_append_without_gap_or_double(tmp_path: Path) -> None:
    writer = SpoolWriter(tmp_path)

    def work(name: int) -> None:
        for n in range(500):
            writer.append(log_event(f"{name}/{n}"))

    threads = [threading.Thread(target=work, args=(name,)) for name in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    writer.close()

    events = list(read_all(tmp_path))
    assert [event.seq for event in events] == list(range(1, 4001))
    assert len({event.logs.lines[0] for event in events}) == 4000


def test_a_follower_sees_an_event_soon_after_its_append(tmp_path: Path) -> None:
    writer, reader = SpoolWriter(tmp_path), SpoolReader(tmp_path)
    writer.append(log_event("first"))
    writer.flush()

    start = time.monotonic()
    writer.append(log_event("second"))
    while not reader.read(1):
        assert time.monotonic() - start < 2
        time.sleep(0.001)

    writer.close()


def test_nothing_is_visible_before_it_is_durable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    visible_at_sync: list[int] = []
    fdatasync = os.fdatasync
    reader = SpoolReader(tmp_path)

    def spying(file: int) -> None:
        visible_at_sync.append(reader.last_seq())
        fdatasync(file)

    writer = SpoolWriter(tmp_path)
    monkeypatch.setattr(os, "fdatasync", spying)
    for n in range(3):
        writer.append(log_event(str(n)))
        writer.flush()
    writer.close()

    assert visible_at_sync == [0, 1, 2]


def test_the_end_is_written_last_and_closes_the_spool(tmp_path: Path) -> None:
    writer = SpoolWriter(tmp_path)
    writer.append(log_event("a"))

    assert writer.finish(finished()) == 2

    last = SpoolReader(tmp_path).last_event()
    assert last is not None and last.HasField("finished")
    with pytest.raises(ValueError, match="closed"):
        writer.append(log_event("late"))


def test_a_disk_that_was_full_before_the_first_event_has_room_for_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reserve(tmp_path)
    write = os.pwrite

    def full(file: int, data: bytes, offset: int) -> int:
        if (tmp_path / "reserve").exists():
            raise OSError(errno.ENOSPC, "No space left on device")
        return write(file, data, offset)

    monkeypatch.setattr(os, "pwrite", full)
    SpoolWriter(tmp_path).finish(job_event_pb2.JobEvent(finished=job_event_pb2.JobFinished()))

    assert SpoolReader(tmp_path).read(0)[-1].HasField("finished")


def test_a_full_disk_is_reported_and_the_end_still_finds_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    writer = SpoolWriter(tmp_path)
    writer.append(log_event("before"))
    writer.flush()
    pwrite = os.pwrite

    def full(file: int, data: bytes, offset: int) -> int:
        if len(data) > 200 or (tmp_path / "reserve").exists():
            raise OSError(28, "No space left on device")
        return pwrite(file, data, offset)

    monkeypatch.setattr(os, "pwrite", full)
    writer.append(log_event("x" * 1000))
    with pytest.raises(DiskFull, match="free some space"):
        writer.flush()
    with pytest.raises(DiskFull):
        writer.append(log_event("more"))

    assert writer.finish(finished()) == 2
    assert [event.WhichOneof("event") for event in read_all(tmp_path)] == ["logs", "finished"]


def test_a_writer_killed_at_any_moment_leaves_a_gapless_prefix(tmp_path: Path) -> None:
    program = (
        "import sys; from pathlib import Path; from trainer_node.spool import SpoolWriter\n"
        "from tunesmith.v1 import job_event_pb2 as e\n"
        "writer = SpoolWriter(Path(sys.argv[1])); print('up', flush=True)\n"
        "while True: writer.append(e.JobEvent(logs=e.LogBatch(lines=['x' * 200])))\n"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-c", program, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=environment) as process:
        assert process.stdout is not None
        process.stdout.readline()
        reader = SpoolReader(tmp_path)
        while (seen := reader.last_seq()) < 1000:
            time.sleep(0.001)
        process.send_signal(signal.SIGKILL)
        process.wait()

    writer = SpoolWriter(tmp_path)
    end = writer.finish(finished())

    assert end > seen
    assert [event.seq for event in read_all(tmp_path)] == list(range(1, end + 1))


TEXTS = st.lists(st.text(max_size=40), min_size=1, max_size=8)


@settings(max_examples=60, deadline=None)
@given(texts=TEXTS, cut=st.integers(0, 10**6), garbage=st.binary(max_size=40))
def test_a_torn_tail_leaves_a_gapless_prefix_to_go_on_from(texts: list[str], cut: int, garbage: bytes) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write(folder, texts)
        log = folder / "events.log"
        whole = log.read_bytes()
        kept = cut % (len(whole) + 1)
        log.write_bytes(whole[:kept] + garbage)

        write(folder, ["next"])

        events = list(read_all(folder))
        assert [event.seq for event in events] == list(range(1, len(events) + 1))
        lines = [event.logs.lines[0] for event in events]
        assert lines[:-1] == texts[: len(lines) - 1]
        assert lines[-1] == "next"
        if kept == len(whole):
            assert len(events) == len(texts) + 1


@settings(max_examples=60, deadline=None)
@given(texts=TEXTS, at=st.integers(0, 10**6), flip=st.integers(1, 255))
def test_a_flipped_byte_is_never_read_as_an_event(texts: list[str], at: int, flip: int) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write(folder, texts)
        log = folder / "events.log"
        damaged = bytearray(log.read_bytes())
        damaged[at % len(damaged)] ^= flip
        log.write_bytes(damaged)

        write(folder, ["next"])

        lines = [event.logs.lines[0] for event in read_all(folder)]
        assert lines[:-1] == texts[: len(lines) - 1]
        assert lines[-1] == "next"


def test_damage_below_the_announced_length_is_an_error_not_the_end(tmp_path: Path) -> None:
    write(tmp_path, ["a" * 100, "b" * 100])
    with (tmp_path / "events.log").open("r+b") as log:
        log.seek(150)
        log.write(b"\xff")

    with pytest.raises(OSError, match="damaged behind event 1"):
        SpoolReader(tmp_path).last_seq()
