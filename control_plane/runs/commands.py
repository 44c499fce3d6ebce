"""Writes to runs, each in one transaction: what clients ask for, and what becomes of it.

Locks are taken in one order, so that no two writers wait for each other: node, job, run, experiment. A write that a job
causes holds the job's and the run's row and finds the job live and its attempt current; else it raises LeaseLost.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from control_plane.config import DispatchConfig
from control_plane.datasets import freeze, version_store
from control_plane.db import requests
from control_plane.db.connection import Connection
from control_plane.db.notify import notify, run_topic
from control_plane.db.pool import Database
from control_plane.db.requests import Request
from control_plane.errors import CheckpointNotFound, LeaseLost, RunFinished, RunNotResumable
from control_plane.ids import new_id
from control_plane.nodes import store as nodes
from control_plane.ports import Blobs
from control_plane.runs import job_store, store
from control_plane.runs.model import Artefacts, AttemptState, Checkpoint, EndReason, Job, Leaves, Run, RunState
from control_plane.runs.planning import Wish, plan, waiting_reason
from control_plane.runs.registration import of_its_kind, register
from tunesmith import spec as specs
from tunesmith.v1 import job_event_pb2, job_spec_pb2, run_pb2

CLIENT = "client"
DISPATCH = "dispatch"
REAP = "reap"
MAX_LOST_ATTEMPTS = DispatchConfig.max_lost_attempts


class _Rehearsed(Exception):
    """Rolls back a transaction that was to show a run without making it."""

    def __init__(self, run: Run) -> None:
        super().__init__(run.run_id)
        self.run = run


async def create_run(
    db: Database,
    blobs: Blobs,
    *,
    experiment_id: str,
    display_name: str = "",
    dataset_version_id: str | None = None,
    min_rating: float | None = None,
    spec: job_spec_pb2.JobSpec | None = None,
    priority: int = 0,
    labels: Mapping[str, str] | None = None,
    validate_only: bool = False,
    request: Request | None = None,
) -> Run:
    """Queue a training of resolved settings on frozen data; with validate_only show it, without ids, and store nothing.

    Raises InvalidField, ExperimentNotFound, DatasetVersionNotFound, DatasetVersionUnsuitable, DatasetEmpty,
    AdapterNotFound, StartAdapterUnsuitable, BlobNotFound, TrainingKindUnavailable, RequestIdReused.
    """
    request = None if validate_only else request
    async with db.connection() as conn:
        if made := await requests.find(conn, request):
            return await store.get(conn, made)
    wish = Wish(experiment_id=experiment_id, dataset_version_id=dataset_version_id, min_rating=min_rating, spec=spec)
    planned = await plan(db, blobs, wish)
    frozen = planned.selection and await freeze.store_bytes(None if validate_only else blobs, planned.selection)
    try:
        async with db.transaction() as conn:
            if made := await requests.replay(conn, request):
                return await store.get(conn, made)
            version_id = planned.dataset_version_id
            if frozen:
                version_id = (await freeze.insert(conn, frozen)).dataset_version_id
            elif version_id:
                await version_store.hold(conn, version_id)
            run = await store.insert(
                conn,
                run_id=new_id("run"),
                experiment_id=experiment_id,
                display_name=display_name,
                dataset_version_id=version_id,
                kind=specs.kind_of(planned.spec),
                spec=planned.spec,
                priority=priority,
                labels=dict(labels or {}),
            )
            if validate_only:
                raise _Rehearsed(replace(run, run_id="", dataset_version_id=planned.dataset_version_id))
            await requests.remember(conn, request, run.run_id)
            return run
    except _Rehearsed as rehearsed:
        return rehearsed.run


async def cancel_run(db: Database, *, run_id: str) -> Run:
    """Ask a run to stop. One without a job is cancelled at once, one with a job is STOPPING until that has ended.

    Changes nothing where it is stopping or cancelled already. Raises RunNotFound, RunFinished.
    """
    async with db.transaction() as conn:
        run = await store.lock(conn, run_id)
        match run.state:
            case RunState.STOPPING | RunState.CANCELLED:
                return run
            case RunState.SUCCEEDED | RunState.FAILED:
                stay = "stay" if run.leaves is Leaves.CLIPS else "stays"
                advice = f"its {run.leaves} {stay}" if run.state is RunState.SUCCEEDED else run.another_try
                raise RunFinished(
                    f"the run has {run.state}, so it cannot be cancelled; {advice}", run_id=run_id, state=run.state
                )
            case RunState.QUEUED | RunState.PAUSED:
                return await store.move(
                    conn, run, RunState.CANCELLED, actor=CLIENT, reason="cancelled before it started"
                )
            case RunState.STARTING | RunState.RUNNING:
                return await store.move(conn, run, RunState.STOPPING, actor=CLIENT, reason="asked to stop")


async def resume_run(
    db: Database, *, run_id: str, checkpoint_step: int | None = None, request: Request | None = None
) -> Run:
    """Queue a new run that goes on from the last checkpoint of a failed or cancelled one, or from that of a step.

    Where that run has none, it is the last one of the run that it went on from itself. Raises RunNotFound,
    RunNotResumable, CheckpointNotFound, RequestIdReused.
    """
    async with db.transaction() as conn:
        if made := await requests.replay(conn, request):
            return await store.get(conn, made)
        parent = await store.lock(conn, run_id)
        if parent.leaves is Leaves.CLIPS:
            what = f"a run of {parent.kind} keeps no checkpoint to go on from; create it again, it plays the same clips"
            raise RunNotResumable(what, run_id=run_id, state=parent.state)
        if parent.state not in (RunState.FAILED, RunState.CANCELLED):
            done = parent.state is RunState.SUCCEEDED
            advice = "create a new run" if done else "cancel it first, or wait until it has ended"
            raise RunNotResumable(
                f"the run is {parent.state}, and only failed and cancelled runs can be resumed; {advice}",
                run_id=run_id,
                state=parent.state,
            )
        checkpoint = await job_store.checkpoint_to_resume(conn, run_id, step=checkpoint_step)
        if checkpoint is None:
            what = "the run has no checkpoint to go on from; create a new run"
            if checkpoint_step is not None:
                what = f"the run has no checkpoint of step {checkpoint_step}; see ListCheckpoints for those it has"
            raise CheckpointNotFound(what, run_id=run_id)
        run = await store.insert(
            conn,
            run_id=new_id("run"),
            experiment_id=parent.experiment_id,
            display_name=parent.display_name,
            dataset_version_id=parent.dataset_version_id,
            kind=parent.kind,
            spec=parent.spec,
            priority=parent.priority,
            labels=parent.labels,
            resumed_from_run_id=run_id,
            resumed_from_step=checkpoint.step,
        )
        await requests.remember(conn, request, run.run_id)
        return run


async def claim_next(db: Database, *, node_id: str, lease_s: float) -> tuple[Run, Job, Checkpoint | None] | None:
    """Give a node the next run that it can do, as a new attempt under a lease; None where there is nothing or no slot.

    The run goes on from its last checkpoint. Any number of control planes may ask at once.
    """
    async with db.transaction() as conn:
        if not await nodes.lock(conn, node_id):
            return None
        run = await job_store.next_run(conn, node_id=node_id)
        if run is None:
            return None
        checkpoint = await job_store.checkpoint_to_resume(conn, run.run_id)
        node = await nodes.get(conn, node_id)
        reason = f"given to node {node.name}" + (f", from step {checkpoint.step}" if checkpoint else "")
        attempt = run.attempt + 1
        run = await store.move(conn, run, RunState.STARTING, actor=DISPATCH, reason=reason, attempt=attempt)
        job = await job_store.insert(
            conn, job_id=new_id("job"), run=run, node_id=node_id, lease_s=lease_s, checkpoint=checkpoint
        )
        return replace(run, node_id=node_id), job, checkpoint


async def mark_started(db: Database, job: Job) -> None:
    """The node has acknowledged the job. Changes nothing where it has ended meanwhile."""
    async with db.transaction() as conn:
        await job_store.mark_started(conn, job.job_id)


async def begin_training(conn: Connection, job: Job, started: job_event_pb2.JobStarted, actor: str) -> Run:
    """Everything is loaded: the run is RUNNING, unless it was asked to stop. Raises LeaseLost."""
    run = await _current(conn, job)
    await job_store.set_attempt_state(conn, job, AttemptState.TRAINING)
    await store.set_plan(conn, run.run_id, total_steps=started.total_steps, total_epochs=started.total_epochs)
    if run.state is not RunState.STARTING:
        return run
    does = "plays" if run.leaves is Leaves.CLIPS else "trains"
    reason = f"{does} on {started.device}" if started.device else ""
    return await store.move(conn, run, RunState.RUNNING, actor=actor, reason=reason)


async def finish_run(
    conn: Connection,
    job: Job,
    finished: job_event_pb2.JobFinished,
    artefacts: Artefacts | None,
    actor: str,
    *,
    max_lost_attempts: int = MAX_LOST_ATTEMPTS,
) -> Run:
    """End a run as its job ended: adapter or model, report, job, attempt and run in the caller's transaction.

    artefacts: needed with success, but for clips; success is a failure where it left something else than its kind does.
    A run that was asked to stop is CANCELLED even where its process failed over it, and SUCCEEDED where it was done
    before. One whose process was stopped by something else is queued again. Raises LeaseLost.
    """
    run = await _current(conn, job)
    finished = await of_its_kind(conn, run, job, finished)
    match finished.WhichOneof("outcome"):
        case "succeeded":
            return await _succeed(conn, run, job, finished.succeeded, artefacts, actor)
        case "failed" if run.state is RunState.STOPPING:
            return await _cancel(
                conn, run, job, actor, reason=f"stopped; its process ended so: {finished.failed.message}"
            )
        case "failed":
            return await _fail(conn, run, job, finished.failed, actor)
        case "cancelled" if run.state is not RunState.STOPPING:
            await job_store.end(conn, job, EndReason.INTERRUPTED)
            reason = "its process was told to stop, though nobody cancelled it"
            return await _begin_again(conn, run, reason, actor=actor, max_lost_attempts=max_lost_attempts)
        case "cancelled":
            step = finished.cancelled.checkpoint_step
            left = f"a checkpoint of step {step} is kept" if step else "no checkpoint was written"
            return await _cancel(conn, run, job, actor, reason=f"stopped; {left}")
        case outcome:
            raise ValueError(f"a job cannot end with {outcome or 'no outcome'}")


async def lose_attempt(
    db: Database,
    job: Job,
    reason: str,
    *,
    actor: str = REAP,
    if_expired: bool = False,
    max_lost_attempts: int = MAX_LOST_ATTEMPTS,
) -> Run | None:
    """A job is gone: queue its run again, cancel it if it was to stop, or fail it where that has happened too often.

    if_expired: only while its lease is run out. None where the job has ended, or was heard of, meanwhile.
    """
    async with db.transaction() as conn:
        lock = job_store.lock_expired if if_expired else job_store.lock
        if await lock(conn, job.job_id) is None:
            return None
        run = await store.lock(conn, job.run_id)
        await job_store.end(conn, job, EndReason.NODE_LOST)
        if run.attempt != job.attempt or run.state.terminal:
            return None
        return await _begin_again(conn, run, reason, actor=actor, max_lost_attempts=max_lost_attempts)


async def give_back(db: Database, job: Job, reason: str) -> Run | None:
    """A node has no room for a job: queue its run again, at no cost to it. None where the job has ended meanwhile."""
    async with db.transaction() as conn:
        if await job_store.lock(conn, job.job_id) is None:
            return None
        run = await _current(conn, job)
        await job_store.end(conn, job, EndReason.GIVEN_BACK)
        target = RunState.CANCELLED if run.state is RunState.STOPPING else RunState.QUEUED
        return await store.move(conn, run, target, actor=DISPATCH, reason=reason)


def lease_lost(job: Job) -> LeaseLost:
    """The error for a write of a job whose attempt is over."""
    what = f"attempt {job.attempt} of {job.run_id} is over; stop its job"
    return LeaseLost(what, run_id=job.run_id, attempt=job.attempt, job_id=job.job_id)


async def explain_queue(db: Database, *, silence_s: float) -> None:
    """Say at each queued run what it waits for, where that has changed."""
    async with db.transaction() as conn:
        kinds = await store.waiting_kinds(conn)
        known = await nodes.page(conn, limit=10_000, silence_s=silence_s) if kinds else []
        for kind in kinds:
            if reason := waiting_reason(kind, known):
                changed = await store.set_waiting_reason(conn, kind=kind, reason=reason)
                await notify(conn, *(run_topic(run_id) for run_id in changed))


async def _current(conn: Connection, job: Job) -> Run:
    """The run of a job that may still write to it, both locked. Raises LeaseLost."""
    live = await job_store.lock(conn, job.job_id)
    run = await store.lock(conn, job.run_id)
    if live is None or run.attempt != job.attempt or run.state.terminal:
        raise lease_lost(job)
    return run


async def _begin_again(conn: Connection, run: Run, reason: str, *, actor: str, max_lost_attempts: int) -> Run:
    """An attempt is over without an end of its own: the run waits for the next one, unless that was too often."""
    lost = run.lost_attempts + 1
    if run.state is RunState.STOPPING:
        gone = f"stopped; its node was lost: {reason}"
        return await store.move(conn, run, RunState.CANCELLED, actor=actor, reason=gone, lost_attempts=lost)
    if lost >= max_lost_attempts:
        message = (
            f"its node was lost {lost} times, the last time so: {reason}; see ListRunEvents, then {run.another_try}"
        )
        failure = run_pb2.RunFailure(reason="NODE_LOST", message=message)
        return await store.move(
            conn, run, RunState.FAILED, actor=actor, reason=message, lost_attempts=lost, failure=failure
        )
    return await store.move(conn, run, RunState.QUEUED, actor=actor, reason=reason, lost_attempts=lost)


async def _succeed(
    conn: Connection, run: Run, job: Job, succeeded: job_event_pb2.JobSucceeded, artefacts: Artefacts | None, actor: str
) -> Run:
    if run.state is RunState.STARTING:
        run = await store.move(conn, run, RunState.RUNNING, actor=actor)
    made = await register(conn, run, succeeded, artefacts)
    await job_store.end(conn, job, EndReason.SUCCEEDED)
    return await store.move(
        conn,
        run,
        RunState.SUCCEEDED,
        actor=actor,
        adapter_id=made.adapter_id,
        model_id=made.model_id,
        final_loss=made.final_loss,
    )


async def _fail(conn: Connection, run: Run, job: Job, failed: job_event_pb2.JobFailed, actor: str) -> Run:
    failure = run_pb2.RunFailure(
        reason=failed.reason or "TRAINING_CRASHED",
        message=failed.message,
        exit_code=failed.exit_code,
        stderr_tail=failed.stderr_tail,
    )
    await job_store.end(conn, job, EndReason.FAILED)
    return await store.move(conn, run, RunState.FAILED, actor=actor, reason=failed.message, failure=failure)


async def _cancel(conn: Connection, run: Run, job: Job, actor: str, *, reason: str) -> Run:
    await job_store.end(conn, job, EndReason.CANCELLED)
    return await store.move(conn, run, RunState.CANCELLED, actor=actor, reason=reason)
