"""Telemetry as messages."""

from __future__ import annotations

import math

from google.protobuf.timestamp_pb2 import Timestamp

from control_plane.telemetry.model import LogCursor, LogLine, MetricBlock, Series
from services.rpc.errors import InvalidPageToken
from tunesmith.v1 import job_event_pb2, telemetry_pb2


def series_message(series: Series) -> telemetry_pb2.MetricSeries:
    """A curve as clients see it."""
    odd = [step for step, value in zip(series.steps, series.values, strict=True) if not math.isfinite(value)]
    return telemetry_pb2.MetricSeries(
        name=series.name,
        steps=series.steps,
        values=series.values,
        times_us=series.times_us,
        total_points=series.total_points,
        non_finite_steps=odd,
    )


def batch_message(block: MetricBlock) -> job_event_pb2.MetricBatch:
    """Metric rows in columns, as their trainer sent them."""
    return job_event_pb2.MetricBatch(names=block.names, steps=block.steps, times_us=block.times_us, values=block.values)


def line_message(line: LogLine) -> telemetry_pb2.LogLine:
    """A line of a log."""
    return telemetry_pb2.LogLine(
        time=Timestamp(seconds=line.time_us // 1_000_000, nanos=line.time_us % 1_000_000 * 1000),
        stream=job_event_pb2.LogStream.Name(line.stream),
        attempt=line.cursor.attempt,
        text=line.text,
    )


def cursor_key(line: LogLine) -> str:
    """The place of a line, as a page's key."""
    return ".".join(str(part) for part in line.cursor)


def log_cursor(key: str | None) -> LogCursor:
    """The place that `cursor_key` gave; the beginning where there is none. Raises InvalidPageToken."""
    if key is None:
        return LogCursor()
    parts = key.split(".")
    if len(parts) != len(LogCursor._fields) or not all(part.isascii() and part.isdigit() for part in parts):
        raise InvalidPageToken("this list did not give page_token; start again without it")
    return LogCursor(*map(int, parts))
