"""Runs with telemetry, made in the database: for tests of telemetry and for benches, where the road there is not the
matter. What the product writes by way of events is written here as the same rows.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from control_plane.db.connection import Connection, execute, fetch_one
from control_plane.db.pool import Database
from control_plane.ids import new_id
from control_plane.runs.model import Job
from control_plane.telemetry.model import BUCKET_STEPS
from control_plane.telemetry.rollup import EXTREMES
from tunesmith.v1 import job_event_pb2

CHUNK_STEPS = 100_000
TIME_US = 1_790_000_000_000_000


async def make_job(
    db: Database, *, run_id: str | None = None, attempt: int = 1, state: str = "running", address: str = "node:1"
) -> Job:
    """A live job of a run on a node; with a run_id, that run's next attempt, its present jobs ended as lost."""
    async with db.transaction() as conn:
        ids = {"run_id": run_id or new_id("run"), "job_id": new_id("job"), "node_id": new_id("nod"), "attempt": attempt}
        await execute(
            conn,
            "INSERT INTO nodes (node_id, name, address, kinds, slots) "
            "VALUES (%(node_id)s, lower(%(node_id)s), %(address)s, '{supervised}', 1)",
            address=address,
            **ids,
        )
        if run_id is None:
            await _make_run(conn, ids["run_id"], state)
        else:
            await execute(conn, "UPDATE jobs SET end_time = now() WHERE run_id = %(run_id)s", **ids)
        await execute(conn, "UPDATE runs SET attempt = %(attempt)s WHERE run_id = %(run_id)s", **ids)
        attempts = "INSERT INTO attempts (run_id, attempt, state) VALUES (%(run_id)s, %(attempt)s, 'training')"
        await execute(conn, attempts, **ids)
        row = await fetch_one(
            conn,
            "INSERT INTO jobs (job_id, run_id, attempt, node_id, started, lease_until) "
            "VALUES (%(job_id)s, %(run_id)s, %(attempt)s, %(node_id)s, true, now() + interval '15 s') "
            "RETURNING job_id, run_id, attempt, rank, node_id, started, last_seq, lease_until, create_time, end_time",
            **ids,
        )
        assert row is not None, "an insert returns its row"
        return Job(**row)


async def end_run(db: Database, run_id: str, *, state: str = "cancelled") -> None:
    """End a run and its jobs, with nothing to show for it."""
    async with db.transaction() as conn:
        await execute(conn, "UPDATE jobs SET end_time = now() WHERE run_id = %(run_id)s", run_id=run_id)
        ended = "UPDATE runs SET state = %(state)s, end_time = now() WHERE run_id = %(run_id)s"
        await execute(conn, ended, run_id=run_id, state=state)


async def fill_metrics(
    db: Database, run_id: str, *, names: Sequence[str] = ("loss",), points: int, stride: int = 1
) -> None:
    """Give a run `points` points a name, at steps 0, stride, 2·stride, …: a falling curve with noise, always the same.

    A point in 100,003 is a spike and one in 250,007 is NaN. Takes about 5 µs a point.
    """
    steps = """
        INSERT INTO metric_steps (run_id, set_id, step, attempt, seq, time_us, vals)
        SELECT %(run_id)s, %(set_id)s, i * %(stride)s, 1, i / 512 + 1, %(time_us)s + i * 1000,
               ARRAY(SELECT CASE WHEN i %% 250007 = 250006 THEN 'NaN'
                                 WHEN i %% 100003 = 50000 THEN 1000 + at
                                 ELSE 5 * exp(-i / 200000.0) + 0.1 * at + (hashint8(i * 31 + at) %% 1000) / 5000.0 END
                     FROM generate_series(1, %(width)s) AS at)
        FROM generate_series(%(first)s::bigint, %(last)s::bigint) AS i
    """
    rollups = f"""
        INSERT INTO metric_rollups (run_id, set_id, position, bucket, points, min_value, min_step, max_value, max_step,
                                    non_finite_points, non_finite_step)
        SELECT %(run_id)s, %(set_id)s, position, step / %(bucket_steps)s, {EXTREMES}
        FROM metric_steps CROSS JOIN LATERAL unnest(vals) WITH ORDINALITY AS v (value, position)
        WHERE run_id = %(run_id)s AND set_id = %(set_id)s
        GROUP BY position, step / %(bucket_steps)s
    """
    async with db.transaction() as conn:
        await conn.execute("SET LOCAL statement_timeout = 0")
        found = await fetch_one(
            conn,
            "INSERT INTO metric_sets (run_id, set_id, names, digest) "
            "SELECT %(run_id)s, count(*) + 1, %(names)s::text[], md5(%(names)s::text[]::text) FROM metric_sets "
            "WHERE run_id = %(run_id)s RETURNING set_id",
            run_id=run_id,
            names=list(names),
        )
        assert found is not None, "an insert returns its row"
        values = {"run_id": run_id, "set_id": found["set_id"]}
        for first in range(0, points, CHUNK_STEPS):
            last = min(first + CHUNK_STEPS, points) - 1
            more = {"first": first, "last": last, "stride": stride, "time_us": TIME_US, "width": len(names)}
            await execute(conn, steps, **values, **more)
        await execute(conn, rollups, **values, bucket_steps=BUCKET_STEPS)
    async with db.connection() as conn:
        await conn.execute("ANALYZE metric_steps, metric_rollups")


def metrics_event(
    seq: int, points: Mapping[str, Sequence[float]], steps: Sequence[int], *, time_us: int = TIME_US
) -> job_event_pb2.JobEvent:
    """An event that carries these metrics. points: name → a value for each of `steps`."""
    columns = list(points.values())
    batch = job_event_pb2.MetricBatch(
        names=list(points),
        steps=steps,
        times_us=[time_us + step for step in steps],
        values=[column[row] for row in range(len(steps)) for column in columns],
    )
    return job_event_pb2.JobEvent(seq=seq, metrics=batch)


def logs_event(
    seq: int, lines: Iterable[str], *, stream: int = job_event_pb2.LOG_STREAM_STDOUT
) -> job_event_pb2.JobEvent:
    """An event that carries these lines."""
    batch = job_event_pb2.LogBatch(stream=job_event_pb2.LogStream.Name(stream), lines=lines, time_us=TIME_US + seq)
    return job_event_pb2.JobEvent(seq=seq, logs=batch)


async def _make_run(conn: Connection, run_id: str, state: str) -> None:
    experiment_id = new_id("exp")
    experiments = "INSERT INTO experiments (experiment_id, name) VALUES (%(id)s, lower(%(id)s))"
    await execute(conn, experiments, id=experiment_id)
    runs = """
        INSERT INTO runs (run_id, experiment_id, kind, spec, state)
        VALUES (%(run_id)s, %(experiment_id)s, 'supervised', '{"supervised": {}}', %(state)s)
    """
    await execute(conn, runs, run_id=run_id, experiment_id=experiment_id, state=state)
