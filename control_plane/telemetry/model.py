"""Telemetry as values: what a trainer's events hold once they were checked, and where a reader stands.

A metric has one value a step, the one that arrived last. A row is a step of a set, the list of names that the rows of
a batch share; rows and lines are read in the order of their events, of which one job is the only writer.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from tunesmith.v1 import job_event_pb2

BUCKET_STEPS = 256  # steps of one metric that a rollup row sums up
MAX_NAMES = 2_000  # metrics of a run; a trainer that invents names as it goes is stopped from filling the database
MAX_SETS = 1_000  # combinations of them
MAX_NAME_CHARACTERS = 200
MAX_LINE_BYTES = 16 * 1024
MAX_TEXT_BYTES = 64 * 1024  # of a preview; a language model writes some hundred tokens
MAX_STEP = 2**53  # above it a step is not exact as a double, in which rollups carry it
MAX_TIME_US = 253_402_300_799_999_999  # the end of the year 9999, the last that a Timestamp can tell
FRAME_ROWS = 5_000  # most rows or lines of a watch's frame
FRAME_BYTES = 256 * 1024  # and about its most bytes: a slow reader holds one frame, not a run


class EventGap(Exception):
    """Events are missing between the stored cursor and a batch; read the stream again from the cursor."""


class MetricRow(NamedTuple):
    """A step of a set. seq: the event that carried it."""

    set_id: int
    step: int
    seq: int
    time_us: int
    values: Sequence[float | None]


class LogRow(NamedTuple):
    """A line as it is stored. line: its index in the event."""

    seq: int
    line: int
    time_us: int
    stream: int
    text: str


@dataclass(frozen=True)
class Loss:
    """What of an event could not be stored. lost: values, lines or records."""

    seq: int
    lost: int
    reason: str


@dataclass(frozen=True)
class MetricBlock:
    """A batch of metric rows with sound columns. values: row by row, len(names) each."""

    seq: int
    names: tuple[str, ...]
    steps: Sequence[int]
    times_us: Sequence[int]
    values: Sequence[float]

    def rows(self, set_id: int) -> list[MetricRow]:
        """Row by row, without those whose step is out of range."""
        width = len(self.names)
        return [
            MetricRow(set_id, step, self.seq, min(max(time_us, 0), MAX_TIME_US), self.values[at : at + width])
            for step, time_us, at in zip(self.steps, self.times_us, range(0, len(self.values), width), strict=True)
            if 0 <= step <= MAX_STEP
        ]


@dataclass(kw_only=True)
class Intake:
    """A stretch of a job's events, sorted by where they are stored. last_seq: of the last event, 0 for none."""

    last_seq: int = 0
    blocks: list[MetricBlock] = field(default_factory=list)
    lines: list[LogRow] = field(default_factory=list)
    checkpoints: list[tuple[int, job_event_pb2.CheckpointSaved]] = field(default_factory=list)
    previews: list[tuple[int, job_event_pb2.PreviewSaved]] = field(default_factory=list)
    started: job_event_pb2.JobStarted | None = None
    finished: job_event_pb2.JobFinished | None = None
    losses: list[Loss] = field(default_factory=list)

    @property
    def step(self) -> int | None:
        """The furthest step of the stretch, or None."""
        steps = [step for block in self.blocks for step in block.steps if 0 <= step <= MAX_STEP]
        steps += [saved.step for _, saved in self.checkpoints]
        if self.started is not None:
            steps.append(self.started.resumed_step)
        return max(steps, default=None)


class MetricCursor(NamedTuple):
    """Up to where metric rows were read. The zero cursor is the beginning."""

    attempt: int = 0
    seq: int = 0
    step: int = 0


class LogCursor(NamedTuple):
    """Up to where log lines were read. The zero cursor is the beginning."""

    attempt: int = 0
    rank: int = 0
    seq: int = 0
    line: int = 0


@dataclass(frozen=True, kw_only=True)
class LogLine:
    """A row of `log_lines`. cursor: its place in the run's log."""

    cursor: LogCursor
    time_us: int
    stream: int
    text: str


@dataclass(frozen=True, kw_only=True)
class MetricRows:
    """Rows of one attempt as a watch sends them, in order. blocks: runs of rows with the same names."""

    attempt: int
    blocks: list[MetricBlock]


@dataclass(frozen=True, kw_only=True)
class Series:
    """Points of one metric, by ascending step. total_points: those in the asked range, before thinning."""

    name: str
    steps: list[int]
    values: list[float]
    times_us: list[int]
    total_points: int


@dataclass(frozen=True, kw_only=True)
class MetricsAnswer:
    """What a query found. recorded: whether the run has any metrics; complete: whether it has ended."""

    series: list[Series]
    complete: bool
    recorded: bool
