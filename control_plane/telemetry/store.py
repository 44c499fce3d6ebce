"""Telemetry's tables: writing what a batch of events holds.

Every function here runs inside the transaction of `commands.apply_events`, under the lock of the job's row. Rows go by
COPY, metric rows through a temporary table so that a step that is measured again replaces its row; rollups of the
buckets that were touched are recomputed, never added to, so that no order of batches can make them drift.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import psycopg
from psycopg import errors

from control_plane.db.connection import Connection, execute, fetch_all, fetch_one, files_column, message_column
from control_plane.runs.model import Job
from control_plane.telemetry.model import (
    BUCKET_STEPS,
    MAX_NAMES,
    MAX_SETS,
    Intake,
    LogRow,
    Loss,
    MetricBlock,
    MetricRow,
)
from control_plane.telemetry.rollup import EXTREMES
from tunesmith.v1 import job_event_pb2

REFUSALS = (psycopg.DataError, psycopg.IntegrityError, errors.ProgramLimitExceeded)
"""What Postgres answers to a row that it will never take; anything else is worth another try."""
MAX_REFUSALS = 100  # of a batch; then what is refused is given up in larger pieces, so that the lease does not run out

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class LockedJob:
    """A job's row under lock. current: its attempt is its run's; last_seq: events up to here are stored."""

    last_seq: int
    ended: bool
    current: bool


async def lock_job(conn: Connection, *, job_id: str) -> LockedJob | None:
    """Lock a job, then its run, until the end of the transaction: nobody ends the attempt or starts another meanwhile,
    so rows of two attempts never mix, and the order of (attempt, seq) is the order in which rows become visible."""
    sql = """
        SELECT j.last_seq, j.end_time IS NOT NULL AS ended, j.attempt = r.attempt AS current
        FROM jobs j JOIN runs r USING (run_id)
        WHERE j.job_id = %(job_id)s
        FOR NO KEY UPDATE OF j, r
    """
    row = await fetch_one(conn, sql, job_id=job_id)
    return LockedJob(**row) if row else None


async def live_cursor(conn: Connection, *, job_id: str) -> int | None:
    """Up to which event a live job is stored; None where it has ended."""
    row = await fetch_one(
        conn, "SELECT last_seq FROM jobs WHERE job_id = %(job_id)s AND end_time IS NULL", job_id=job_id
    )
    return row["last_seq"] if row else None


async def advance(conn: Connection, job: Job, intake: Intake, *, lease_s: float) -> None:
    """Move a job's cursor and lease behind a batch, and its run's progress: on, or back where an attempt begins."""
    sql = """
        WITH moved AS (
            UPDATE jobs SET last_seq = %(last_seq)s, lease_until = now() + %(lease_s)s * interval '1 second'
            WHERE job_id = %(job_id)s
            RETURNING run_id)
        UPDATE runs SET step = %(step)s FROM moved
        WHERE runs.run_id = moved.run_id AND (%(step)s::bigint > step OR (%(begins)s AND %(step)s::bigint < step))
    """
    values = {"last_seq": intake.last_seq, "step": intake.step, "begins": intake.started is not None}
    await execute(conn, sql, job_id=job.job_id, lease_s=lease_s, **values)


async def renew_lease(conn: Connection, *, job_id: str, lease_s: float) -> bool:
    """Give a live job of the current attempt another full lease; False where it is not one."""
    sql = """
        UPDATE jobs j SET lease_until = now() + %(lease_s)s * interval '1 second'
        FROM runs r
        WHERE j.job_id = %(job_id)s AND j.end_time IS NULL AND r.run_id = j.run_id AND r.attempt = j.attempt
    """
    return await execute(conn, sql, job_id=job_id, lease_s=lease_s) == 1


@dataclass(frozen=True)
class MetricSets:
    """The sets of a run. by_names: their ids; shared: ids of sets with a metric that another set has as well."""

    by_names: dict[tuple[str, ...], int]
    shared: frozenset[int]


async def assign_sets(
    conn: Connection, *, run_id: str, blocks: Sequence[MetricBlock]
) -> tuple[MetricSets, list[MetricBlock], list[Loss]]:
    """The run's sets with those of `blocks` added, the blocks that have one, and losses for those above the limits."""
    known = await fetch_all(conn, "SELECT set_id, names FROM metric_sets WHERE run_id = %(run_id)s", run_id=run_id)
    by_names = {tuple(row["names"]): row["set_id"] for row in known}
    every = {name for names in by_names for name in names}
    kept, losses = [], []
    for block in blocks:
        if block.names not in by_names:
            if len(every | set(block.names)) > MAX_NAMES or len(by_names) >= MAX_SETS:
                what = f"the run has {len(every)} metrics in {len(by_names)} sets; {MAX_NAMES} and {MAX_SETS} are kept"
                losses.append(Loss(block.seq, len(block.values), what))
                continue
            by_names[block.names] = await _add_set(conn, run_id, max(by_names.values(), default=0) + 1, block.names)
            every.update(block.names)
        kept.append(block)
    times = Counter(name for names in by_names for name in names)
    shared = frozenset(set_id for names, set_id in by_names.items() if any(times[name] > 1 for name in names))
    return MetricSets(by_names, shared), kept, losses


async def _add_set(conn: Connection, run_id: str, set_id: int, names: tuple[str, ...]) -> int:
    sql = """
        INSERT INTO metric_sets (run_id, set_id, names, digest) VALUES (%(run_id)s, %(set_id)s, %(names)s, %(digest)s)
    """
    # Names hold no NUL, so the joined text tells the list exactly.
    digest = hashlib.sha256("\0".join(names).encode()).hexdigest()
    await execute(conn, sql, run_id=run_id, set_id=set_id, names=list(names), digest=digest)
    return set_id


async def write_metrics(conn: Connection, job: Job, *, rows: Iterable[MetricRow], shared: frozenset[int]) -> list[Loss]:
    """Store metric rows and their rollups; of rows of the same step the last counts. Returns what was refused.

    shared: sets whose metrics other sets have too.
    """
    last = list({(row.set_id, row.step): row for row in rows}.values())
    if not last:
        return []
    await conn.execute(_INCOMING)

    async def write(part: Sequence[MetricRow]) -> None:
        await conn.execute(b"DELETE FROM telemetry_incoming")
        await _copy_incoming(conn, part)
        await execute(conn, _UPSERT, run_id=job.run_id, attempt=job.attempt)
        others = sorted(shared) if shared.intersection(row.set_id for row in part) else []
        if others:
            await execute(conn, _SUPERSEDE, run_id=job.run_id, shared=others)
        await execute(conn, _ROLL_UP, run_id=job.run_id, bucket_steps=BUCKET_STEPS, shared=others)

    refused = await _write_what_fits(conn, last, write)
    return [Loss(row.seq, len(row.values), reason) for row, reason in refused]


async def _copy_incoming(conn: Connection, rows: Sequence[MetricRow]) -> None:
    sql = b"COPY telemetry_incoming (set_id, step, seq, time_us, vals) FROM STDIN (FORMAT binary)"
    async with conn.cursor() as cursor, cursor.copy(sql) as copy:
        copy.set_types(["int4", "int8", "int8", "int8", "float8[]"])
        for row in rows:
            await copy.write_row(row)


async def write_lines(conn: Connection, job: Job, *, lines: Sequence[LogRow]) -> list[Loss]:
    """Store log lines. Returns what was refused."""

    async def write(part: Sequence[LogRow]) -> None:
        sql = b"""
            COPY log_lines (run_id, attempt, rank, seq, line, time_us, stream, text) FROM STDIN (FORMAT binary)
        """
        async with conn.cursor() as cursor, cursor.copy(sql) as copy:
            copy.set_types(["text", "int4", "int4", "int8", "int4", "int8", "int2", "text"])
            for line in part:
                await copy.write_row((job.run_id, job.attempt, job.rank, *line))

    refused = await _write_what_fits(conn, lines, write) if lines else []
    return [Loss(line.seq, 1, reason) for line, reason in refused]


async def write_checkpoint(conn: Connection, job: Job, *, seq: int, saved: job_event_pb2.CheckpointSaved) -> list[Loss]:
    """Store a checkpoint whose files are blobs here. Returns what was refused."""

    async def write(part: Sequence[job_event_pb2.CheckpointSaved]) -> None:
        sql = """
            INSERT INTO checkpoints (run_id, attempt, step, epoch, eval_loss, best, files)
            VALUES (%(run_id)s, %(attempt)s, %(step)s, %(epoch)s, %(eval_loss)s, %(best)s, %(files)s)
            ON CONFLICT (run_id, attempt, step) DO UPDATE
            SET epoch = excluded.epoch, eval_loss = excluded.eval_loss, best = excluded.best, files = excluded.files
        """
        one = part[0]
        eval_loss = one.eval_loss if one.HasField("eval_loss") else None
        values = {"step": one.step, "epoch": one.epoch, "eval_loss": eval_loss, "best": one.best}
        await execute(conn, sql, run_id=job.run_id, attempt=job.attempt, files=files_column(one.files), **values)

    refused = await _write_what_fits(conn, [saved], write)
    return [Loss(seq, 1, reason) for _, reason in refused]


async def write_preview(conn: Connection, job: Job, *, seq: int, saved: job_event_pb2.PreviewSaved) -> list[Loss]:
    """Store a text, or a clip whose file is a blob here. Returns what was refused."""

    async def write(part: Sequence[job_event_pb2.PreviewSaved]) -> None:
        sql = """
            INSERT INTO previews (run_id, attempt, step, prompt_index, prompt, seed, duration_s, file, text)
            VALUES (%(run_id)s, %(attempt)s, %(step)s, %(prompt_index)s, %(prompt)s, %(seed)s, %(duration_s)s, %(file)s,
                    %(text)s)
            ON CONFLICT (run_id, attempt, step, prompt_index, seed) DO UPDATE
            SET prompt = excluded.prompt, duration_s = excluded.duration_s, file = excluded.file, text = excluded.text
        """
        one = part[0]
        values = {"step": one.step, "prompt_index": one.prompt_index, "prompt": one.prompt, "seed": one.seed}
        made = {
            "duration_s": one.duration_s,
            "file": message_column(one.file if one.HasField("file") else None),
            "text": one.text or None,
        }
        await execute(conn, sql, run_id=job.run_id, attempt=job.attempt, **values, **made)

    refused = await _write_what_fits(conn, [saved], write)
    return [Loss(seq, 1, reason) for _, reason in refused]


async def count_losses(conn: Connection, job: Job, *, losses: Sequence[Loss]) -> None:
    """Add to what could not be stored: one row an event, with the first of its reasons."""
    sql = """
        INSERT INTO telemetry_losses AS known (run_id, attempt, rank, seq, lost, reason)
        VALUES (%(run_id)s, %(attempt)s, %(rank)s, %(seq)s, %(lost)s, %(reason)s)
        ON CONFLICT (run_id, attempt, rank, seq) DO UPDATE SET lost = known.lost + excluded.lost
    """
    by_seq: dict[int, Loss] = {}
    for loss in losses:
        known = by_seq.get(loss.seq)
        by_seq[loss.seq] = Loss(loss.seq, known.lost + loss.lost, known.reason) if known else loss
    for loss in by_seq.values():
        values = {"seq": loss.seq, "lost": loss.lost, "reason": loss.reason}
        await execute(conn, sql, run_id=job.run_id, attempt=job.attempt, rank=job.rank, **values)


async def _write_what_fits(
    conn: Connection, rows: Sequence[T], write: Callable[[Sequence[T]], Awaitable[None]]
) -> list[tuple[T, str]]:
    """Write all rows but those that Postgres refuses, found by halving. Returns these with the reason of each."""
    refused: list[tuple[T, str]] = []
    parts = [rows]
    while parts:
        part = parts.pop()
        try:
            async with conn.transaction():  # a savepoint: a refusal undoes this part alone
                await write(part)
        except REFUSALS as error:
            reason = f"{type(error).__name__}: {error.diag.message_primary or error}"
            if len(part) == 1 or len(refused) >= MAX_REFUSALS:
                refused += [(row, reason) for row in part]
            else:
                parts += [part[len(part) // 2 :], part[: len(part) // 2]]
    return refused


# Lives as long as its connection, so that no transaction adds to the catalogue; empty at the end of each.
_INCOMING = b"""
    CREATE TEMPORARY TABLE IF NOT EXISTS telemetry_incoming
        (set_id integer, step bigint, seq bigint, time_us bigint, vals float8[]) ON COMMIT DELETE ROWS
"""

_UPSERT = """
    INSERT INTO metric_steps AS known (run_id, set_id, step, attempt, seq, time_us, vals)
    SELECT %(run_id)s, set_id, step, %(attempt)s, seq, time_us, vals FROM telemetry_incoming ORDER BY set_id, step
    ON CONFLICT (run_id, set_id, step) DO UPDATE
    SET attempt = excluded.attempt, seq = excluded.seq, time_us = excluded.time_us, vals = excluded.vals
    WHERE (known.attempt, known.seq) <= (excluded.attempt, excluded.seq)
"""

# A metric that stands in two sets may be told twice of one step: the earlier value becomes null, so that every reader
# finds one value without having to compare.
_SUPERSEDE = """
    WITH touched AS (SELECT DISTINCT step FROM telemetry_incoming),
    rows AS (
        SELECT m.set_id, m.step, m.attempt, m.seq, s.names
        FROM touched t
        JOIN metric_steps m ON m.run_id = %(run_id)s AND m.set_id = ANY (%(shared)s) AND m.step = t.step
        JOIN metric_sets s ON s.run_id = %(run_id)s AND s.set_id = m.set_id),
    beaten AS (
        SELECT old.set_id, old.step, array_agg(DISTINCT name) AS names
        FROM rows old
        JOIN rows new ON new.step = old.step AND (new.attempt, new.seq) > (old.attempt, old.seq)
            AND new.names && old.names
        CROSS JOIN LATERAL unnest(new.names) AS name
        GROUP BY old.set_id, old.step)
    UPDATE metric_steps m
    SET vals = ARRAY(SELECT CASE WHEN s.names[at] = ANY (b.names) THEN NULL ELSE value END
                     FROM unnest(m.vals) WITH ORDINALITY AS v (value, at) ORDER BY at)
    FROM beaten b JOIN metric_sets s ON s.run_id = %(run_id)s AND s.set_id = b.set_id
    WHERE m.run_id = %(run_id)s AND m.set_id = b.set_id AND m.step = b.step
"""

# Positions count from 1, as Postgres's arrays do. OFFSET 0 keeps the planner from flattening the subquery: before the
# first ANALYZE it takes a run for small and joins every bucket with every step, some seconds a batch from 100,000 on.
_ROLL_UP = f"""
    WITH arrived AS (SELECT DISTINCT set_id, step / %(bucket_steps)s AS bucket FROM telemetry_incoming),
    touched AS (
        SELECT set_id, bucket FROM arrived
        UNION
        SELECT other, bucket FROM arrived CROSS JOIN unnest(%(shared)s::integer[]) AS other)
    INSERT INTO metric_rollups (run_id, set_id, position, bucket, points, min_value, min_step, max_value, max_step,
                                non_finite_points, non_finite_step)
    SELECT %(run_id)s, t.set_id, v.position, t.bucket, {EXTREMES}
    FROM touched t
    CROSS JOIN LATERAL (
        SELECT step, vals FROM metric_steps m
        WHERE m.run_id = %(run_id)s AND m.set_id = t.set_id
          AND m.step >= t.bucket * %(bucket_steps)s AND m.step < (t.bucket + 1) * %(bucket_steps)s
        OFFSET 0) AS m
    CROSS JOIN LATERAL unnest(m.vals) WITH ORDINALITY AS v (value, position)
    GROUP BY t.set_id, v.position, t.bucket
    ON CONFLICT (run_id, set_id, position, bucket) DO UPDATE
    SET points = excluded.points, min_value = excluded.min_value, min_step = excluded.min_step,
        max_value = excluded.max_value, max_step = excluded.max_step,
        non_finite_points = excluded.non_finite_points, non_finite_step = excluded.non_finite_step
"""
