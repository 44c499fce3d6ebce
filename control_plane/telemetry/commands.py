"""Storing what a job reports: one transaction a batch, in which its cursor and its lease move too.

Whatever is killed, and wherever, a batch is either stored with its cursor or not at all, and what is read again after
that is skipped by its number: nothing is lost, nothing is doubled. The job's row is locked first, so two control planes
that follow the same job take turns, and an attempt that is not the current one writes nothing.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import structlog

from control_plane.db.connection import Connection
from control_plane.db.notify import run_topic
from control_plane.db.pool import Database
from control_plane.ports import Blobs
from control_plane.runs import commands as runs
from control_plane.runs.model import Artefacts, Job
from control_plane.telemetry import store
from control_plane.telemetry.artefacts import read_ending
from control_plane.telemetry.intake import take_in
from control_plane.telemetry.model import EventGap, Intake, Loss
from tunesmith.v1 import job_event_pb2

log = structlog.get_logger()

ACTOR = "ingest"
DIGEST = re.compile("[0-9a-f]{64}")
"""What a blob may be named."""


@dataclass(frozen=True, kw_only=True)
class Applied:
    """Where a job stands after a batch. last_seq: events up to here are stored; ended: the last one is among them."""

    last_seq: int
    ended: bool


async def apply_events(
    db: Database,
    blobs: Blobs,
    job: Job,
    events: Sequence[job_event_pb2.JobEvent],
    *,
    lease_s: float,
    max_lost_attempts: int = runs.MAX_LOST_ATTEMPTS,
) -> Applied:
    """Store events of a job, in order; those that are stored already are skipped.

    The blobs that checkpoints, previews and results name must be stored before: what names one that is not becomes a
    loss, or a failed run. Raises LeaseLost where the attempt is over, EventGap where events before these are missing.
    """
    ending = await _read_ending(blobs, events)
    absent = set(await blobs.missing(sorted(_digests(events))))
    async with db.transaction() as conn:
        locked = await store.lock_job(conn, job_id=job.job_id)
        fresh = _fresh(job, locked, events)
        intake = take_in(fresh, rank=job.rank)
        if not fresh or locked is None:
            ended = bool(locked and locked.ended)
            if not ended:
                await store.renew_lease(conn, job_id=job.job_id, lease_s=lease_s)
            return Applied(last_seq=locked.last_seq if locked else 0, ended=ended)
        losses = await _write(conn, job, intake, absent)
        await store.count_losses(conn, job, losses=losses)
        await store.advance(conn, job, intake, lease_s=lease_s)
        if intake.finished is not None and ending is not None:
            await runs.finish_run(conn, job, *ending, ACTOR, max_lost_attempts=max_lost_attempts)
    db.hub.wake(run_topic(job.run_id))
    for loss in losses:
        facts = {"attempt": job.attempt, "seq": loss.seq, "lost": loss.lost, "reason": loss.reason}
        log.warning("telemetry_lost", run_id=job.run_id, **facts)
    return Applied(last_seq=intake.last_seq, ended=intake.finished is not None)


async def renew_lease(db: Database, job: Job, *, lease_s: float) -> None:
    """Give the job another full lease: its node was heard. Raises LeaseLost where the attempt is over."""
    async with db.transaction() as conn:
        if not await store.renew_lease(conn, job_id=job.job_id, lease_s=lease_s):
            raise runs.lease_lost(job)


def _fresh(
    job: Job, locked: store.LockedJob | None, events: Sequence[job_event_pb2.JobEvent]
) -> list[job_event_pb2.JobEvent]:
    """Those of `events` that are to be stored now: gapless from the cursor on."""
    if locked is None:
        raise runs.lease_lost(job)
    fresh = [event for event in events if event.seq > locked.last_seq]
    if not locked.current or (locked.ended and fresh):
        raise runs.lease_lost(job)
    for expected, event in enumerate(fresh, locked.last_seq + 1):
        if event.seq != expected:
            raise EventGap(f"event {event.seq} of {job.job_id} came where {expected} was expected")
    return fresh


async def _write(conn: Connection, job: Job, intake: Intake, absent: set[str]) -> list[Loss]:
    if intake.started is not None:
        await runs.begin_training(conn, job, intake.started, ACTOR)
    losses = list(intake.losses)
    sets, blocks, refused = await store.assign_sets(conn, run_id=job.run_id, blocks=intake.blocks)
    rows = [row for block in blocks for row in block.rows(sets.by_names[block.names])]
    losses += refused
    losses += await store.write_metrics(conn, job, rows=rows, shared=sets.shared)
    losses += await store.write_lines(conn, job, lines=intake.lines)
    for seq, checkpoint in intake.checkpoints:
        if absent.intersection(file.digest for file in checkpoint.files):
            losses.append(Loss(seq, 1, "a checkpoint whose files its node does not have"))
        else:
            losses += await store.write_checkpoint(conn, job, seq=seq, saved=checkpoint)
    for seq, preview in intake.previews:
        if preview.file.digest in absent:
            losses.append(Loss(seq, 1, "a preview whose file its node does not have"))
        else:
            losses += await store.write_preview(conn, job, seq=seq, saved=preview)
    return losses


async def _read_ending(
    blobs: Blobs, events: Sequence[job_event_pb2.JobEvent]
) -> tuple[job_event_pb2.JobFinished, Artefacts | None] | None:
    for event in events:
        if event.HasField("finished"):
            return await read_ending(blobs, event.finished)
    return None


def _digests(events: Sequence[job_event_pb2.JobEvent]) -> set[str]:
    """Blobs that checkpoints and previews name."""
    files = [file for event in events for file in (*event.checkpoint_saved.files, event.preview_saved.file)]
    return {file.digest for file in files if DIGEST.fullmatch(file.digest)}
