"""TelemetryService: unpack, one call, pack."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass

from control_plane.db.notify import run_topic
from control_plane.db.pool import Database
from control_plane.telemetry import feed, query
from control_plane.telemetry.model import LogCursor, LogLine, MetricCursor, MetricRows
from services.convert.telemetry import batch_message, cursor_key, line_message, log_cursor, series_message
from services.rpc.calls import Context
from services.rpc.paging import MAX_PAGE_BYTES, cursor
from services.rpc.watch import resumed, token, watch
from tunesmith.v1 import run_pb2, telemetry_pb2, telemetry_pb2_grpc

DEFAULT_POINTS = 1000


class TelemetryService(telemetry_pb2_grpc.TelemetryServiceServicer):
    """Metrics and logs of runs. What each RPC promises stands in telemetry.proto."""

    def __init__(self, db: Database) -> None:
        self._db = db

    async def QueryMetrics(
        self, request: telemetry_pb2.QueryMetricsRequest, context: Context
    ) -> telemetry_pb2.QueryMetricsResponse:
        """Read curves."""
        low = request.min_step if request.HasField("min_step") else None
        high = request.max_step if request.HasField("max_step") else None
        points = request.max_points or DEFAULT_POINTS
        async with self._db.connection() as conn:
            found = await query.query_metrics(conn, request.run_id, request.names, low, high, points)
        why = telemetry_pb2.EMPTY_REASON_UNSPECIFIED
        if not found.recorded:
            why = telemetry_pb2.EMPTY_REASON_NO_METRICS_RECORDED
        elif not found.series:
            why = telemetry_pb2.EMPTY_REASON_NO_MATCH
        series = [series_message(one) for one in found.series]
        return telemetry_pb2.QueryMetricsResponse(series=series, complete=found.complete, empty_reason=why)

    async def WatchMetrics(
        self, request: telemetry_pb2.WatchMetricsRequest, context: Context
    ) -> AsyncIterator[telemetry_pb2.WatchMetricsResponse]:
        """Follow metrics."""
        after = MetricCursor(*resumed(request, MetricCursor()))
        source = _Metrics(self._db, request.run_id, tuple(request.names), request.min_step)
        with self._db.hub.subscribe(run_topic(request.run_id)) as wake:
            async for frame in watch(source, after=after, wake=wake):
                response = telemetry_pb2.WatchMetricsResponse(resume_token=token(request, frame.cursor))
                if frame.rows is None:
                    response.heartbeat.CopyFrom(run_pb2.Heartbeat())
                else:
                    batches = [batch_message(block) for block in frame.rows.blocks]
                    response.rows.CopyFrom(telemetry_pb2.MetricRows(batches=batches, attempt=frame.rows.attempt))
                yield response

    async def QueryLogs(
        self, request: telemetry_pb2.QueryLogsRequest, context: Context
    ) -> telemetry_pb2.QueryLogsResponse:
        """Read a page of lines, oldest first."""
        page = cursor(request)
        after = log_cursor(page.after)
        async with self._db.connection() as conn:
            await query.run_ended(conn, run_id=request.run_id)
            lines = await feed.read_lines(
                conn,
                run_id=request.run_id,
                after=after,
                limit=page.limit,
                max_bytes=2 * MAX_PAGE_BYTES,  # more than a page holds, so that one that is full by size goes on
                stream=int(request.stream),
                contains=request.contains,
            )
        shown, next_token = page.cut(lines, line_message, cursor_key)
        return telemetry_pb2.QueryLogsResponse(lines=shown, next_page_token=next_token)

    async def WatchLogs(
        self, request: telemetry_pb2.WatchLogsRequest, context: Context
    ) -> AsyncIterator[telemetry_pb2.WatchLogsResponse]:
        """Follow lines."""
        after = LogCursor(*resumed(request, LogCursor()))
        source = _Lines(self._db, request.run_id)
        with self._db.hub.subscribe(run_topic(request.run_id)) as wake:
            async for frame in watch(source, after=after, wake=wake):
                response = telemetry_pb2.WatchLogsResponse(resume_token=token(request, frame.cursor))
                if frame.rows is None:
                    response.heartbeat.CopyFrom(run_pb2.Heartbeat())
                else:
                    lines = [line_message(line) for line in frame.rows]
                    response.lines.CopyFrom(telemetry_pb2.LogLines(lines=lines))
                yield response


@dataclass(frozen=True)
class _Run:
    """A run whose telemetry is watched."""

    db: Database
    run_id: str

    async def finished(self) -> bool:
        """Whether the run has ended: its last telemetry was stored with that."""
        async with self.db.connection() as conn:
            return await query.run_ended(conn, run_id=self.run_id)


@dataclass(frozen=True)
class _Metrics(_Run):
    """Metric rows of a run, as a watch reads them."""

    names: tuple[str, ...]
    min_step: int

    async def read(self, after: MetricCursor) -> tuple[MetricCursor, MetricRows | None]:
        """The next frame."""
        async with self.db.connection() as conn:
            return await feed.read_metrics(
                conn, run_id=self.run_id, names=self.names, min_step=self.min_step, after=after
            )


@dataclass(frozen=True)
class _Lines(_Run):
    """Log lines of a run, as a watch reads them."""

    async def read(self, after: LogCursor) -> tuple[LogCursor, list[LogLine] | None]:
        """The next frame."""
        async with self.db.connection() as conn:
            lines = await feed.read_lines(conn, run_id=self.run_id, after=after)
        return (lines[-1].cursor, lines) if lines else (after, None)
