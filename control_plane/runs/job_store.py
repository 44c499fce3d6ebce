"""Attempts and jobs in the database: what is claimed, leased, lost and ended.

A job is live until its end_time is set; while it lives it holds a slot of its node and a lease.
"""

from __future__ import annotations

from control_plane.db.connection import Connection, Row, execute, fetch_all, fetch_one
from control_plane.runs import store
from control_plane.runs.model import AttemptState, Checkpoint, EndReason, Job, Run


async def next_run(conn: Connection, *, node_id: str) -> Run | None:
    """The queued run that a node should get next, locked; None where none fits or no slot is free.

    To be asked with the node's row locked, so that two callers do not fill the same slot. No two callers get the same
    run, since each passes over what another has locked.
    """
    sql = """
        SELECT r.run_id FROM runs r JOIN nodes n ON r.kind = ANY (n.kinds)
        WHERE r.state = 'queued' AND n.node_id = %(node_id)s
          AND n.slots > (SELECT count(*) FROM jobs j WHERE j.node_id = n.node_id AND j.end_time IS NULL)
        ORDER BY r.priority DESC, r.run_id LIMIT 1 FOR NO KEY UPDATE OF r SKIP LOCKED
    """
    row = await fetch_one(conn, sql, node_id=node_id)
    return None if row is None else await store.get(conn, row["run_id"])


async def insert(
    conn: Connection, *, job_id: str, run: Run, node_id: str, lease_s: float, checkpoint: Checkpoint | None
) -> Job:
    """Begin the run's current attempt on a node, from `checkpoint` or afresh."""
    sql = """
        WITH leased AS (
            INSERT INTO attempts (run_id, attempt, state, resume_run_id, resume_attempt, resume_step)
            VALUES (%(run_id)s, %(attempt)s, 'leased', %(resume_run_id)s, %(resume_attempt)s, %(resume_step)s))
        INSERT INTO jobs (job_id, run_id, attempt, node_id, lease_until)
        VALUES (%(job_id)s, %(run_id)s, %(attempt)s, %(node_id)s, now() + %(lease_s)s * interval '1 second')
        RETURNING *
    """
    row = await fetch_one(
        conn,
        sql,
        job_id=job_id,
        run_id=run.run_id,
        attempt=run.attempt,
        node_id=node_id,
        lease_s=lease_s,
        resume_run_id=checkpoint.run_id if checkpoint else None,
        resume_attempt=checkpoint.attempt if checkpoint else None,
        resume_step=checkpoint.step if checkpoint else None,
    )
    assert row is not None, "an insert returns its row"
    return _job(row)


async def lock(conn: Connection, job_id: str) -> Job | None:
    """A live job that nobody else changes until the transaction ends; None where it has ended."""
    sql = "SELECT * FROM jobs WHERE job_id = %(id)s AND end_time IS NULL FOR NO KEY UPDATE"
    row = await fetch_one(conn, sql, id=job_id)
    return None if row is None else _job(row)


async def lock_expired(conn: Connection, job_id: str) -> Job | None:
    """Like `lock`, for a job whose lease has run out; None where it was renewed meanwhile."""
    sql = """
        SELECT * FROM jobs WHERE job_id = %(id)s AND end_time IS NULL AND lease_until < now() FOR NO KEY UPDATE
    """
    row = await fetch_one(conn, sql, id=job_id)
    return None if row is None else _job(row)


async def live(conn: Connection) -> list[Job]:
    """Every live job: what ingest follows."""
    return [_job(row) for row in await fetch_all(conn, "SELECT * FROM jobs WHERE end_time IS NULL ORDER BY job_id")]


async def unacknowledged(conn: Connection) -> list[Job]:
    """Live jobs whose node has not said that it has them, of runs that nobody asked to stop."""
    sql = """
        SELECT j.* FROM jobs j JOIN runs r USING (run_id)
        WHERE j.end_time IS NULL AND NOT j.started AND r.state <> 'stopping' ORDER BY job_id
    """
    return [_job(row) for row in await fetch_all(conn, sql)]


async def stopping(conn: Connection) -> list[Job]:
    """Live jobs of runs that were asked to stop."""
    sql = """
        SELECT j.* FROM jobs j JOIN runs r USING (run_id)
        WHERE j.end_time IS NULL AND r.state = 'stopping' ORDER BY job_id
    """
    return [_job(row) for row in await fetch_all(conn, sql)]


async def expired(conn: Connection, *, limit: int) -> list[Job]:
    """Live jobs whose lease has run out, the longest silent first."""
    sql = "SELECT * FROM jobs WHERE end_time IS NULL AND lease_until < now() ORDER BY lease_until LIMIT %(limit)s"
    return [_job(row) for row in await fetch_all(conn, sql, limit=limit)]


async def ended_among(conn: Connection, job_ids: list[str]) -> set[str]:
    """Those of `job_ids` that have ended. Ids that are not known here are none of our business."""
    sql = "SELECT job_id FROM jobs WHERE job_id = ANY (%(ids)s) AND end_time IS NOT NULL"
    return {row["job_id"] for row in await fetch_all(conn, sql, ids=job_ids)}


async def mark_started(conn: Connection, job_id: str) -> bool:
    """The node has the job: its attempt prepares. False where the job has ended, or that was known."""
    sql = """
        WITH acknowledged AS (
            UPDATE jobs SET started = true WHERE job_id = %(id)s AND end_time IS NULL AND NOT started
            RETURNING run_id, attempt)
        UPDATE attempts a SET state = 'preparing' FROM acknowledged j
        WHERE (a.run_id, a.attempt) = (j.run_id, j.attempt) AND a.state = 'leased'
    """
    return await execute(conn, sql, id=job_id) > 0


async def set_attempt_state(conn: Connection, job: Job, state: AttemptState) -> None:
    """Say where the job's attempt stands; for its end, use `end`."""
    sql = (
        "UPDATE attempts SET state = %(state)s WHERE run_id = %(run_id)s AND attempt = %(attempt)s AND state <> 'ended'"
    )
    await execute(conn, sql, run_id=job.run_id, attempt=job.attempt, state=str(state))


async def note_silence(conn: Connection, *, lease_s: float) -> int:
    """Call attempts unreachable of whose job nothing was heard for half a lease, and those heard again what they were.

    Only says what is seen: nothing is taken from them. How many were changed.
    """
    sql = """
        UPDATE attempts a SET state = seen.state
        FROM (SELECT j.run_id, j.attempt,
                     CASE WHEN j.lease_until < now() + %(lease_s)s * interval '0.5 second' THEN 'unreachable'
                          WHEN r.state = 'starting' THEN 'preparing' ELSE 'training' END AS state
              FROM jobs j JOIN runs r USING (run_id) WHERE j.end_time IS NULL AND j.started AND j.rank = 0) AS seen
        WHERE (a.run_id, a.attempt) = (seen.run_id, seen.attempt) AND a.state <> seen.state
          AND 'unreachable' IN (a.state, seen.state) AND a.state IN ('preparing', 'training', 'unreachable')
    """
    return await execute(conn, sql, lease_s=lease_s)


async def end(conn: Connection, job: Job, reason: EndReason) -> None:
    """End a job and its attempt: the slot and the lease are free when the transaction commits."""
    sql = """
        WITH ended AS (UPDATE jobs SET end_time = now() WHERE job_id = %(job_id)s)
        UPDATE attempts SET state = 'ended', end_reason = %(reason)s, end_time = now()
        WHERE run_id = %(run_id)s AND attempt = %(attempt)s
    """
    await execute(conn, sql, job_id=job.job_id, run_id=job.run_id, attempt=job.attempt, reason=str(reason))


async def grant_full_term(conn: Connection, *, lease_s: float) -> int:
    """Let every live lease last `lease_s` from now, unless it lasts longer; how many there are."""
    sql = """
        UPDATE jobs SET lease_until = greatest(lease_until, now() + %(lease_s)s * interval '1 second')
        WHERE job_id IN (SELECT job_id FROM jobs WHERE end_time IS NULL FOR NO KEY UPDATE SKIP LOCKED)
    """
    return await execute(conn, sql, lease_s=lease_s)


async def checkpoint_to_resume(conn: Connection, run_id: str, *, step: int | None = None) -> Checkpoint | None:
    """The last checkpoint of a run, or of the run that it goes on from, and so on back; None where none has any.

    Of a run that another goes on from, checkpoints count up to the step where that was. step: the one of this step.
    """
    sql = """
        WITH RECURSIVE line (run_id, parent_id, parent_step, last_step, distance) AS (
            SELECT run_id, resumed_from_run_id, resumed_from_step, NULL::bigint, 0 FROM runs WHERE run_id = %(run_id)s
            UNION ALL
            SELECT r.run_id, r.resumed_from_run_id, r.resumed_from_step, line.parent_step, distance + 1
            FROM runs r JOIN line ON r.run_id = line.parent_id)
        SELECT c.* FROM checkpoints c JOIN line USING (run_id)
        WHERE c.step <= coalesce(line.last_step, c.step) AND c.step = coalesce(%(step)s, c.step)
        ORDER BY distance, step DESC, attempt DESC LIMIT 1
    """
    row = await fetch_one(conn, sql, run_id=run_id, step=step)
    return None if row is None else store.read_checkpoint(row)


async def checkpoint_of(conn: Connection, job: Job) -> Checkpoint | None:
    """The checkpoint that a job's attempt goes on from; None for a fresh start."""
    sql = """
        SELECT c.* FROM attempts a JOIN checkpoints c
            ON (c.run_id, c.attempt, c.step) = (a.resume_run_id, a.resume_attempt, a.resume_step)
        WHERE a.run_id = %(run_id)s AND a.attempt = %(attempt)s
    """
    row = await fetch_one(conn, sql, run_id=job.run_id, attempt=job.attempt)
    return None if row is None else store.read_checkpoint(row)


def _job(row: Row) -> Job:
    return Job(**{key: value for key, value in row.items() if key != "leased"})
