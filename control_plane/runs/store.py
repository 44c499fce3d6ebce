"""Runs, their events, checkpoints and previews in the database. Every change of a run's state goes through `move`."""

from __future__ import annotations

from collections.abc import Collection

from control_plane.db.connection import (
    Connection,
    Row,
    execute,
    fetch_all,
    fetch_one,
    json_column,
    message_column,
    read_files,
    read_message,
    storable,
)
from control_plane.db.notify import QUEUE, notify, run_topic
from control_plane.errors import RunNotFound
from control_plane.runs.model import Checkpoint, IllegalMove, Preview, Run, RunEvent, RunState, require_move
from tunesmith.v1 import blob_pb2, job_spec_pb2, run_pb2


async def get(conn: Connection, run_id: str) -> Run:
    """One run. Raises RunNotFound."""
    sql = """
        SELECT r.*, j.node_id FROM runs r LEFT JOIN jobs j USING (run_id, attempt) WHERE r.run_id = %(id)s
        ORDER BY j.rank LIMIT 1
    """
    return _run(_found(await fetch_one(conn, sql, id=run_id), run_id))


async def lock(conn: Connection, run_id: str) -> Run:
    """One run that nobody else moves until the transaction ends. Raises RunNotFound.

    Who locks a job as well locks that first.
    """
    sql = "SELECT run_id FROM runs WHERE run_id = %(id)s FOR NO KEY UPDATE"
    _found(await fetch_one(conn, sql, id=run_id), run_id)
    return await get(conn, run_id)


async def page(
    conn: Connection,
    *,
    experiment_id: str | None = None,
    states: Collection[RunState] = (),
    id_prefix: str = "",
    after: str | None = None,
    limit: int,
) -> list[Run]:
    """At most `limit` runs, newest first, beginning after the id `after`. No states: in any."""
    sql = """
        SELECT r.*, j.node_id
        FROM runs r LEFT JOIN jobs j ON (j.run_id, j.attempt, j.rank) = (r.run_id, r.attempt, 0)
        WHERE (%(experiment_id)s::text IS NULL OR r.experiment_id = %(experiment_id)s)
          AND (cardinality(%(states)s::text[]) = 0 OR r.state = ANY (%(states)s))
          AND starts_with(r.run_id, %(id_prefix)s) AND (%(after)s::text IS NULL OR r.run_id < %(after)s)
        ORDER BY r.run_id DESC LIMIT %(limit)s
    """
    wanted = [str(state) for state in states]
    rows = await fetch_all(
        conn, sql, experiment_id=experiment_id or None, states=wanted, id_prefix=id_prefix, after=after, limit=limit
    )
    return [_run(row) for row in rows]


async def insert(
    conn: Connection,
    *,
    run_id: str,
    experiment_id: str,
    display_name: str,
    dataset_version_id: str | None,
    kind: str,
    spec: job_spec_pb2.JobSpec,
    priority: int,
    labels: dict[str, str],
    resumed_from_run_id: str | None = None,
    resumed_from_step: int = 0,
) -> Run:
    """Queue a new run, with its first event."""
    sql = """
        WITH queued AS (
            INSERT INTO runs (run_id, experiment_id, display_name, dataset_version_id, kind, spec, state, priority,
                              labels, resumed_from_run_id, resumed_from_step)
            VALUES (%(run_id)s, %(experiment_id)s, %(display_name)s, %(dataset_version_id)s, %(kind)s, %(spec)s,
                    'queued', %(priority)s, %(labels)s, %(resumed_from_run_id)s, %(resumed_from_step)s)
            RETURNING run_id, revision, state)
        INSERT INTO run_events (run_id, revision, actor, to_state) SELECT run_id, revision, 'client', state FROM queued
    """
    await execute(
        conn,
        sql,
        run_id=run_id,
        experiment_id=experiment_id,
        display_name=display_name,
        dataset_version_id=dataset_version_id,
        kind=kind,
        spec=message_column(spec),
        priority=priority,
        labels=json_column(labels),
        resumed_from_run_id=resumed_from_run_id,
        resumed_from_step=resumed_from_step,
    )
    await notify(conn, QUEUE)
    return await get(conn, run_id)


async def move(
    conn: Connection,
    run: Run,
    target: RunState,
    *,
    actor: str,
    reason: str = "",
    attempt: int | None = None,
    lost_attempts: int | None = None,
    adapter_id: str | None = None,
    model_id: str | None = None,
    final_loss: float | None = None,
    failure: run_pb2.RunFailure | None = None,
) -> Run:
    """Take a run, as it was locked, to another state, and write down who did it and why.

    attempt, lost_attempts: left as they are where None. Wakes the run's watchers, and dispatch where the move gives it
    something to do. Raises IllegalMove.
    """
    require_move(run.state, target)
    sql = """
        WITH moved AS (
            UPDATE runs
            SET state = %(target)s, state_reason = %(reason)s, revision = revision + 1, attempt = %(attempt)s,
                lost_attempts = %(lost_attempts)s, adapter_id = %(adapter_id)s, model_id = %(model_id)s,
                final_loss = %(final_loss)s, failure = %(failure)s,
                end_time = CASE WHEN %(terminal)s THEN now() END,
                start_time = CASE WHEN %(target)s = 'running' THEN coalesce(start_time, now()) ELSE start_time END
            WHERE run_id = %(run_id)s AND revision = %(revision)s
            RETURNING run_id, revision, attempt, state)
        INSERT INTO run_events (run_id, revision, actor, from_state, to_state, attempt, reason)
        SELECT run_id, revision, %(actor)s, %(origin)s, state, attempt, %(reason)s FROM moved
    """
    written = await execute(
        conn,
        sql,
        run_id=run.run_id,
        revision=run.revision,
        origin=str(run.state),
        target=str(target),
        terminal=target.terminal,
        actor=actor,
        reason=storable(reason),
        attempt=run.attempt if attempt is None else attempt,
        lost_attempts=run.lost_attempts if lost_attempts is None else lost_attempts,
        adapter_id=adapter_id,
        model_id=model_id,
        final_loss=final_loss,
        failure=message_column(failure),
    )
    if not written:
        raise IllegalMove(f"{run.run_id} was moved by another, so it was not locked")
    hints_dispatch = target not in (RunState.STARTING, RunState.RUNNING)
    await notify(conn, run_topic(run.run_id), *([QUEUE] if hints_dispatch else []))
    return await get(conn, run.run_id)


async def set_plan(conn: Connection, run_id: str, *, total_steps: int, total_epochs: int) -> None:
    """Store how long the training will be, known once everything is loaded."""
    sql = "UPDATE runs SET total_steps = %(steps)s, total_epochs = %(epochs)s WHERE run_id = %(id)s"
    await execute(conn, sql, id=run_id, steps=total_steps, epochs=total_epochs)


async def waiting_kinds(conn: Connection) -> list[str]:
    """Kinds of training that queued runs wait for."""
    rows = await fetch_all(conn, "SELECT DISTINCT kind FROM runs WHERE state = 'queued' ORDER BY kind")
    return [row["kind"] for row in rows]


async def set_waiting_reason(conn: Connection, *, kind: str, reason: str) -> list[str]:
    """Say what the queued runs of a kind wait for; the ids of those for which that is news.

    Runs that are being claimed right now are passed over.
    """
    sql = """
        UPDATE runs SET state_reason = %(reason)s
        WHERE run_id IN (SELECT run_id FROM runs WHERE state = 'queued' AND kind = %(kind)s
                         AND state_reason <> %(reason)s FOR NO KEY UPDATE SKIP LOCKED)
        RETURNING run_id
    """
    return [row["run_id"] for row in await fetch_all(conn, sql, kind=kind, reason=reason)]


async def events(conn: Connection, *, run_id: str, after: str | None = None, limit: int) -> list[RunEvent]:
    """At most `limit` events of a run, oldest first, beginning after the key `after`. Raises RunNotFound."""
    await get(conn, run_id)
    sql = """
        SELECT * FROM run_events WHERE run_id = %(run_id)s AND revision > %(after)s ORDER BY revision LIMIT %(limit)s
    """
    rows = await fetch_all(conn, sql, run_id=run_id, after=int(after or 0), limit=limit)
    return [_event(row) for row in rows]


async def checkpoints(conn: Connection, *, run_id: str, after: str | None = None, limit: int) -> list[Checkpoint]:
    """At most `limit` checkpoints of a run, by step, beginning after the key `after`. Raises RunNotFound."""
    await get(conn, run_id)
    step, attempt = _key(after, 2)
    sql = """
        SELECT * FROM checkpoints WHERE run_id = %(run_id)s AND (step, attempt) > (%(step)s, %(attempt)s)
        ORDER BY step, attempt LIMIT %(limit)s
    """
    rows = await fetch_all(conn, sql, run_id=run_id, step=step, attempt=attempt, limit=limit)
    return [read_checkpoint(row) for row in rows]


async def previews(conn: Connection, *, run_id: str, after: str | None = None, limit: int) -> list[Preview]:
    """At most `limit` previews of a run, by step, prompt and seed, beginning after the key `after`.

    Raises RunNotFound.
    """
    await get(conn, run_id)
    step, prompt_index, seed, attempt = _key(after, 4)
    sql = """
        SELECT * FROM previews
        WHERE run_id = %(run_id)s
          AND (step, prompt_index, seed, attempt) > (%(step)s, %(prompt_index)s, %(seed)s, %(attempt)s)
        ORDER BY step, prompt_index, seed, attempt LIMIT %(limit)s
    """
    place = {"step": step, "prompt_index": prompt_index, "seed": seed, "attempt": attempt}
    return [_preview(row) for row in await fetch_all(conn, sql, run_id=run_id, limit=limit, **place)]


async def count_clips(conn: Connection, run_id: str, *, attempt: int) -> int:
    """How many clips an attempt has left."""
    sql = "SELECT count(*) AS clips FROM previews WHERE run_id = %(run_id)s AND attempt = %(attempt)s AND text IS NULL"
    row = await fetch_one(conn, sql, run_id=run_id, attempt=attempt)
    return int(row["clips"]) if row else 0


def read_checkpoint(row: Row) -> Checkpoint:
    """The checkpoint of a row."""
    return Checkpoint(**{**row, "files": read_files(row["files"])})


def _key(after: str | None, parts: int) -> list[int]:
    return [int(part) for part in after.split("/")] if after else [-1] * parts


def _found(row: Row | None, run_id: str) -> Row:
    if row is None:
        raise RunNotFound(f"there is no run {run_id}; list them with ListRuns", run_id=run_id)
    return row


def _run(row: Row) -> Run:
    read = {
        "spec": read_message(job_spec_pb2.JobSpec, row["spec"]),
        "state": RunState(row["state"]),
        "failure": read_message(run_pb2.RunFailure, row["failure"]),
    }
    columns: Row = {**row, **read}
    del columns["live"]
    return Run(**columns)


def _event(row: Row) -> RunEvent:
    origin = RunState(row["from_state"]) if row["from_state"] else None
    return RunEvent(**{**row, "from_state": origin, "to_state": RunState(row["to_state"])})


def _preview(row: Row) -> Preview:
    read = {"file": read_message(blob_pb2.File, row["file"]), "text": row["text"] or ""}
    return Preview(**{**row, **read})
