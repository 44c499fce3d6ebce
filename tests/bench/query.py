"""QueryMetrics of a run with a million points, thinned to a thousand, against reading all of its points."""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import grpc

from control_plane.config import DatabaseConfig
from control_plane.db.pool import open_database
from services.rpc.server import build_server, serving
from services.telemetry_service import TelemetryService
from tests.bench.figures import Figure
from tests.support.telemetry_load import fill_metrics, make_job
from tunesmith.v1 import telemetry_pb2, telemetry_pb2_grpc

POINTS = 1_000_000
CALLS = 15


async def measure(folder: Path) -> AsyncIterator[Figure]:
    """Over a real socket, from a database that has just been filled."""
    async with open_database(DatabaseConfig(data_dir=folder / "postgres")) as db:
        job = await make_job(db)
        await fill_metrics(db, job.run_id, points=POINTS)
        server = build_server([TelemetryService(db)], listen="127.0.0.1:0")
        async with serving(server) as address, grpc.aio.insecure_channel(address) as channel:
            stub = telemetry_pb2_grpc.TelemetryServiceStub(channel)

            async def curve(**range_of_steps: int) -> telemetry_pb2.QueryMetricsResponse:
                request = telemetry_pb2.QueryMetricsRequest(
                    run_id=job.run_id, names=["loss"], max_points=1000, **range_of_steps
                )
                return await stub.QueryMetrics(request)

            async def every_point() -> None:
                async with db.connection() as conn:
                    await conn.execute("SELECT max(vals[1]) FROM metric_steps WHERE run_id = %s", [job.run_id])

            shown = len((await curve()).series[0].steps)
            whole = await median_ms(curve)
            part = await median_ms(lambda: curve(min_step=500_000, max_step=510_000))
            scan = await median_ms(every_point)
        yield Figure(f"{POINTS:,} points, max_points=1000 ({shown} shown)", f"{whole:.1f} ms", "over gRPC, median")
        yield Figure("10,000 steps in the middle of it", f"{part:.1f} ms")
        yield Figure("looking at every point in the database / the query", f"{scan / whole:.1f} ×", f"{scan:.0f} ms")


async def median_ms(action: Callable[[], Awaitable[object]]) -> float:
    """Median milliseconds of a call, after one that does not count."""
    await action()
    taken = []
    for _ in range(CALLS):
        begun = time.perf_counter()
        await action()
        taken.append(1000 * (time.perf_counter() - begun))
        await asyncio.sleep(0)
    return statistics.median(taken)
