"""Ingest: follow each live job's events and store them, wherever they were left.

The cursor is in the database and moves in the transaction that stores a batch, so this program may be killed anywhere
and any number of them may follow the same job. A lone event is stored at once; a busy stream is stored in batches of
what came within BATCH_S, so commits do not pile up. Files that events name are copied before the transaction, never
inside it. Whatever is heard of a job renews its lease; one whose attempt is over is stopped.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator, Iterable, Sequence
from types import TracebackType

import structlog

from control_plane.config import DispatchConfig
from control_plane.db.failures import expected_failure
from control_plane.db.pool import Database
from control_plane.errors import BlobCorrupt, LeaseLost, NodeRefused, NodeUnreachable
from control_plane.loops.inbox import Inbox, closed_after
from control_plane.nodes import store as nodes
from control_plane.nodes.model import Node
from control_plane.ports import Blobs, Trainer
from control_plane.runs import job_store
from control_plane.runs import store as runs
from control_plane.runs.model import Job, RunState
from control_plane.telemetry import commands, store
from control_plane.telemetry.model import EventGap
from tunesmith.errors import TunesmithError
from tunesmith.v1 import blob_pb2, job_event_pb2

log = structlog.get_logger()

BATCH_S = 0.05  # least time between two commits of a job
SILENCE_S = 6.0  # a stream that brings neither event nor heartbeat, which come every 2 s, is opened anew
RETRY_S, RETRY_MAX_S = 0.1, 5.0  # pause after a failure, doubled each time and jittered
OWN_TROUBLE = frozenset({"DISK_FULL", "UNAVAILABLE"})  # of the store of blobs
MAX_BLOB_BYTES = 8 * 1024**3  # as of uploads


class Ingest:
    """One task for each live job; `tick` starts those that are missing. Enter it; leaving stops them all."""

    def __init__(self, db: Database, trainer: Trainer, blobs: Blobs, config: DispatchConfig) -> None:
        self._db = db
        self._trainer = trainer
        self._blobs = blobs
        self._config = config
        self._tasks: dict[str, asyncio.Task[None]] = {}

    async def __aenter__(self) -> Ingest:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        tasks = list(self._tasks.values())
        self._tasks.clear()
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)

    async def tick(self) -> None:
        """Follow every job that a node has and nobody here follows yet."""
        self._tasks = {job_id: task for job_id, task in self._tasks.items() if not task.done()}
        async with self._db.connection() as conn:
            jobs = await job_store.live(conn)
        for job in jobs:
            if job.started and job.job_id not in self._tasks:
                name = f"ingest {job.job_id}"
                self._tasks[job.job_id] = asyncio.create_task(self.follow(job), name=name)

    async def follow(self, job: Job) -> None:
        """Store a job's events until its last one, or until its attempt is over."""
        pause_s = RETRY_S
        while True:
            began = time.monotonic()
            try:
                if await self._follow_once(job):
                    return
            except LeaseLost:
                await self._stop(job)
                return
            except Exception as error:  # never the end of it: said each time, and tried ever later
                known = error if isinstance(error, TunesmithError | EventGap) else expected_failure(error)
                if known is not None:
                    log.warning("ingest_interrupted", run_id=job.run_id, job_id=job.job_id, error=str(known))
                else:
                    log.error("ingest_failed", run_id=job.run_id, job_id=job.job_id, exc_info=error)
            if time.monotonic() - began > RETRY_MAX_S:
                pause_s = RETRY_S
            await asyncio.sleep(pause_s * random.uniform(0.5, 1.0))
            pause_s = min(pause_s * 2, RETRY_MAX_S)

    async def _follow_once(self, job: Job) -> bool:
        """Read one stream until it ends. Returns whether the job's last event is stored."""
        async with self._db.connection() as conn:
            after_seq = await store.live_cursor(conn, job_id=job.job_id)
            node = await nodes.get(conn, job.node_id)
        if after_seq is None:
            return True
        frames = self._trainer.stream_events(node, job.job_id, after_seq)
        async with Inbox(frames) as inbox:
            while True:
                begun = time.monotonic()
                arrived = await inbox.take(within_s=SILENCE_S)
                if arrived.events:
                    try:
                        ended = await self._store(job, node, arrived.events)
                    except TunesmithError as error:
                        if error.reason in OWN_TROUBLE and not isinstance(error, NodeUnreachable):
                            await self._hold(job)
                        raise
                    if ended:
                        return True
                elif arrived.heartbeat:
                    await commands.renew_lease(self._db, job, lease_s=self._config.lease_s)
                if arrived.ended:
                    return False
                await asyncio.sleep(begun + BATCH_S - time.monotonic())

    async def _store(self, job: Job, node: Node, events: Sequence[job_event_pb2.JobEvent]) -> bool:
        """Store events, each after the files that it names. Returns whether the job's last event is among them."""
        ended = False
        for part in _parts(events):
            for event in part:
                await self._copy(job, node, _files(event))
            applied = await commands.apply_events(
                self._db,
                self._blobs,
                job,
                part,
                lease_s=self._config.lease_s,
                max_lost_attempts=self._config.max_lost_attempts,
            )
            ended = ended or applied.ended
        return ended

    async def _hold(self, job: Job) -> None:
        """Renew the lease of a job that was heard and could not be stored, for which its node is not to blame.

        Not of one that is to stop: it would wait for us for ever, and is over sooner when it counts as lost.
        """
        async with self._db.connection() as conn:
            run = await runs.get(conn, job.run_id)
        if run.state is not RunState.STOPPING:
            await commands.renew_lease(self._db, job, lease_s=self._config.lease_s)

    async def _copy(self, job: Job, node: Node, files: Iterable[blob_pb2.File]) -> None:
        """Copy the files of an event that are not stored here. What its node cannot give is left missing, for the
        event to be counted as lost; raises NodeUnreachable, DiskFull, which are worth another try."""
        wanted = {file.digest: file.size_bytes for file in files if commands.DIGEST.fullmatch(file.digest)}
        for digest in await self._blobs.missing(list(wanted)) if wanted else ():
            facts = {"run_id": job.run_id, "job_id": job.job_id, "digest": digest}
            if not 0 <= wanted[digest] <= MAX_BLOB_BYTES:
                log.warning("blob_lost", error=f"{wanted[digest]} bytes are not a size", **facts)
                continue
            try:
                async with closed_after(self._trainer.fetch_blob(node, digest)) as chunks:
                    await self._blobs.put(digest, self._heard(job, chunks), wanted[digest])
            except (NodeRefused, BlobCorrupt) as error:
                log.warning("blob_lost", error=str(error), **facts)

    async def _heard(self, job: Job, chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        """Pass `chunks` on, and renew the lease while they come: a large checkpoint takes longer than a lease."""
        renewed = time.monotonic()
        async for chunk in chunks:
            if time.monotonic() - renewed > self._config.lease_s / 3:
                await commands.renew_lease(self._db, job, lease_s=self._config.lease_s)
                renewed = time.monotonic()
            yield chunk

    async def _stop(self, job: Job) -> None:
        """Tell a node that a job's attempt is over. If it does not hear, its next event brings us here again."""
        log.warning("lease_lost", run_id=job.run_id, attempt=job.attempt, job_id=job.job_id, node_id=job.node_id)
        try:
            async with self._db.connection() as conn:
                node = await nodes.get(conn, job.node_id)
            await self._trainer.stop_job(node, job.job_id, self._config.stop_grace_s)
        except (NodeUnreachable, NodeRefused) as error:
            log.warning("stop_failed", run_id=job.run_id, job_id=job.job_id, error=str(error))


def _parts(events: Sequence[job_event_pb2.JobEvent]) -> list[list[job_event_pb2.JobEvent]]:
    """Cut before each event that names files, so that copying them holds up nothing that came earlier."""
    parts: list[list[job_event_pb2.JobEvent]] = [[]]
    for event in events:
        if parts[-1] and _files(event):
            parts.append([])
        parts[-1].append(event)
    return parts


def _files(event: job_event_pb2.JobEvent) -> list[blob_pb2.File]:
    """The files that an event names."""
    match event.WhichOneof("event"):
        case "checkpoint_saved":
            return list(event.checkpoint_saved.files)
        case "preview_saved" if event.preview_saved.HasField("file"):
            return [event.preview_saved.file]
        case "finished" if event.finished.HasField("succeeded"):
            left = event.finished.succeeded
            made = (*left.adapter_files, *left.model_files)
            return [*made, left.training_config, left.report_json, left.report_markdown]
        case _:
            return []
