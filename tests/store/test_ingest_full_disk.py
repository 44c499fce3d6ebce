"""A full disk of the control plane: its own trouble, for which no node loses a run."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from control_plane.config import DispatchConfig
from control_plane.db.connection import fetch_one
from control_plane.errors import DiskFull
from control_plane.loops import ingest as loop
from control_plane.loops.ingest import Ingest
from control_plane.loops.reap import Reap
from control_plane.runs import commands as runs
from control_plane.runs.model import Job, RunState
from tests.support.fakes import FakeTrainer, InMemoryBlobs
from tests.support.registry import Registry, digest_of
from tunesmith.v1 import blob_pb2, job_event_pb2

WEIGHTS = blob_pb2.File(path="adapter_model.safetensors", digest=digest_of("weights"), size_bytes=7)
SAVED = job_event_pb2.JobEvent(seq=1, checkpoint_saved=job_event_pb2.CheckpointSaved(step=10, files=[WEIGHTS]))


class FullBlobs(InMemoryBlobs):
    """Blobs without room until `freed`. refused: how often they were asked to store some."""

    def __init__(self) -> None:
        super().__init__()
        self.freed = False
        self.refused = 0

    async def put(self, digest: str, chunks: AsyncIterator[bytes], size: int) -> None:
        if not self.freed:
            self.refused += 1
            raise DiskFull("no room; free some space")
        await super().put(digest, chunks, size)


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Retries follow each other at once."""
    monkeypatch.setattr(loop, "RETRY_S", 0.001)
    monkeypatch.setattr(loop, "RETRY_MAX_S", 0.01)


async def training(registry: Registry) -> tuple[Job, FakeTrainer]:
    """A job whose node tells of a checkpoint."""
    _, job = await registry.running()
    await runs.mark_started(registry.db, job)
    trainer = FakeTrainer()
    trainer.blobs[WEIGHTS.digest] = b"weights"
    trainer.logs[job.job_id] = [SAVED]
    return job, trainer


async def lease_left_s(registry: Registry, job: Job) -> float:
    sql = "SELECT extract(epoch FROM lease_until - now())::float8 AS left_s FROM jobs WHERE job_id = %(id)s"
    async with registry.db.connection() as conn:
        row = await fetch_one(conn, sql, id=job.job_id)
    assert row is not None
    return float(row["left_s"])


async def refused_again(blobs: FullBlobs) -> None:
    """Wait for two more refusals: what the first of them led to is over."""
    before = blobs.refused
    async with asyncio.timeout(20):
        while blobs.refused < before + 2:  # noqa: ASYNC110  a fake that is asked wakes nobody
            await asyncio.sleep(0.005)


async def test_a_full_disk_here_takes_no_run_from_its_node_and_loses_no_checkpoint(registry: Registry) -> None:
    job, trainer = await training(registry)
    registry.blobs = blobs = FullBlobs()

    async with Ingest(registry.db, trainer, blobs, DispatchConfig()) as ingest:
        await ingest.tick()
        await registry.lapse(job)
        await refused_again(blobs)
        assert await lease_left_s(registry, job) > 10
        blobs.freed = True
        async with asyncio.timeout(20):
            while not await registry.count("checkpoints"):  # noqa: ASYNC110  it wakes nobody
                await asyncio.sleep(0.005)

    assert (await registry.get(job)).state is RunState.RUNNING


async def test_a_run_that_is_to_stop_does_not_wait_for_room(registry: Registry) -> None:
    job, trainer = await training(registry)
    await runs.cancel_run(registry.db, run_id=job.run_id)
    blobs = FullBlobs()

    async with Ingest(registry.db, trainer, blobs, DispatchConfig()) as ingest:
        await ingest.tick()
        await refused_again(blobs)
        await registry.lapse(job)
        await refused_again(blobs)
        reap = Reap(registry.db, DispatchConfig(), clock=lambda: 0.0)
        await reap.tick()  # the first look after a start gives every lease a full term
        await registry.lapse(job)
        await reap.tick()

    assert (await registry.get(job)).state is RunState.CANCELLED
