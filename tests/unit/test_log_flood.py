"""Log floods: a training that prints without end neither fills the database nor loses its last words."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from tests.support.node_jobs import end_of, events_of, fake_jobs, gapless, make_job, node_config
from tests.support.node_jobs import lines as log_lines
from trainer_node.log_budget import BURST_BYTES, LINE_BYTES, RATE_BYTES_S, REOPEN_BYTES, LogBudget
from trainer_node.log_lines import KEPT_AT_END_BYTES, MAX_BATCH_BYTES, LogFollower
from tunesmith.v1 import job_event_pb2

MARKER = re.compile(r"\[([\d,]+) lines, ([\d,]+) bytes, are left out here: ")
DEBT = MAX_BATCH_BYTES + (LINE_BYTES << 9)  # the batch that uses the budget up may exceed it


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def follower(tmp_path: Path, clock: Clock) -> LogFollower:
    return LogFollower(tmp_path / "log", job_event_pb2.LOG_STREAM_STDOUT, budget=LogBudget(clock=clock))


def taken(follower: LogFollower, *, final: bool = False) -> list[str]:
    return [line for batch in follower.read(final=final) for line in batch.lines]


def accounted(lines: list[str]) -> tuple[int, int]:
    """Lines that were kept, and lines that markers count."""
    marks = [int(found[1].replace(",", "")) for line in lines if (found := MARKER.match(line))]
    return len(lines) - len(marks), sum(marks)


def cost(lines: list[str]) -> int:
    return sum(len(line) + LINE_BYTES for line in lines)


@pytest.mark.parametrize("line", [b"\n", b"a line of a progress report\n", b"x" * 3000 + b"\n"])
def test_a_flood_is_cut_to_the_budget_and_every_line_is_kept_or_counted(
    tmp_path: Path, follower: LogFollower, line: bytes
) -> None:
    count = 40_000_000 // len(line) if len(line) > 1 else 1_000_000
    (tmp_path / "log").write_bytes(line * count)

    lines = taken(follower, final=True)

    assert BURST_BYTES < cost(lines) < BURST_BYTES + DEBT + KEPT_AT_END_BYTES * (1 + LINE_BYTES // len(line))
    kept, counted = accounted(lines)
    assert counted > 0
    assert count <= kept + counted <= count + 1  # the place where keeping begins again may lie within a line


def test_the_last_lines_are_kept_whatever_came_before(tmp_path: Path, follower: LogFollower) -> None:
    with (tmp_path / "log").open("wb") as log:
        log.write(b"noise noise noise\n" * 1_500_000)
        log.write(b"the reason why it ended")

    lines = taken(follower) + taken(follower, final=True)

    assert lines[0] == "noise noise noise"
    assert lines[-1] == "the reason why it ended"
    assert sum(MARKER.match(line) is not None for line in lines) == 1


def test_lines_are_kept_again_after_a_flood_and_say_how_many_are_missing(
    tmp_path: Path, follower: LogFollower, clock: Clock
) -> None:
    with (tmp_path / "log").open("ab", buffering=0) as log:
        log.write((b"x" * 199 + b"\n") * 100_000)
        before = taken(follower)
        log.write(b"just after\n")
        assert taken(follower) == []

        clock.now += (REOPEN_BYTES + DEBT) / RATE_BYTES_S
        log.write(b"heard again\n")
        after = taken(follower)

    assert MARKER.match(after[0])
    assert after[-2:] == ["just after", "heard again"]
    assert accounted(before + after)[1] == 100_002 - len(before) - (len(after) - 1)


def test_a_quiet_training_never_meets_the_limit(tmp_path: Path, follower: LogFollower, clock: Clock) -> None:
    written = 0
    with (tmp_path / "log").open("ab", buffering=0) as log:
        for _ in range(1000):
            log.write(
                b"step loss grad_norm and so on in a line of a hundred characters or so, every second or oftener\n" * 25
            )
            written += 25
            clock.now += 1.0
            assert len(taken(follower)) == 25

    assert written * 160 > 3 << 20


def test_an_endless_line_is_cut_too(tmp_path: Path, follower: LogFollower) -> None:
    with (tmp_path / "log").open("wb") as log:
        log.write(b"z" * (BURST_BYTES * 3))

    lines = taken(follower) + taken(follower, final=True)

    assert cost(lines) < BURST_BYTES + DEBT + 2 * KEPT_AT_END_BYTES
    assert sum(MARKER.match(line) is not None for line in lines) == 1


def test_a_reader_is_not_held_up_by_who_goes_on_printing(tmp_path: Path, follower: LogFollower) -> None:
    path = tmp_path / "log"
    path.write_bytes(b"first\n")
    lines: list[str] = []

    for batch in follower.read(final=True):
        lines += batch.lines
        with path.open("ab") as log:
            log.write(b"more\n")

    assert lines == ["first"]
    assert os.path.getsize(path) == len(b"first\nmore\n")


async def test_a_flood_holds_up_no_metric_and_the_job_ends_with_its_last_line(tmp_path: Path) -> None:
    job = make_job("flooding")
    async with fake_jobs(node_config(tmp_path)) as jobs:
        await jobs.start(job)
        events = await events_of(jobs, job.job_id)

    assert gapless(events)
    assert end_of(events).HasField("succeeded")
    assert [event.metrics.steps[0] for event in events if event.HasField("metrics")] == list(range(1, 11))
    told = log_lines(events)
    assert told[-1] == "the last line"
    assert cost(told) < BURST_BYTES + DEBT + 3 * KEPT_AT_END_BYTES
    assert sum(accounted(told)) == 10 * 4 * 20_000 + 1
