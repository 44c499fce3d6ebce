"""What `Ingest` promises: every event of a job once, through cuts, kills and lost leases, its end with its files."""

from __future__ import annotations

import asyncio
import hashlib
import itertools
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import aclosing, asynccontextmanager
from typing import Any

import pytest
from google.protobuf import json_format

from control_plane.config import DispatchConfig
from control_plane.db.connection import fetch_all
from control_plane.db.pool import Database
from control_plane.errors import NodeUnreachable
from control_plane.loops import ingest as loop
from control_plane.loops.inbox import CAPACITY_BYTES, Inbox
from control_plane.loops.ingest import Ingest
from control_plane.nodes.model import Node
from control_plane.ports import Blobs
from control_plane.runs import commands as runs
from control_plane.runs.model import Job, RunState
from control_plane.telemetry import commands
from tests.support.fakes import FakeTrainer
from tests.support.registry import Registry
from tests.support.telemetry_load import logs_event, metrics_event
from tunesmith.v1 import blob_pb2, job_event_pb2, run_pb2, trainer_pb2

Frame = trainer_pb2.StreamJobEventsResponse
Events = Sequence[job_event_pb2.JobEvent]
HEARTBEAT = Frame(heartbeat=run_pb2.Heartbeat())


class Spool(FakeTrainer):
    """A node with one job's events. cuts: after how many events each stream breaks off, the last for ever after."""

    def __init__(self, *events: job_event_pb2.JobEvent, cuts: tuple[int, ...] = ()) -> None:
        super().__init__()
        self.log = list(events)
        self.cuts = itertools.chain(cuts, itertools.repeat(0))
        self.asked: list[int] = []

    async def add(self, *events: job_event_pb2.JobEvent) -> None:
        await self.tell(self.log, *events)

    def log_of(self, node: Node, job_id: str) -> list[job_event_pb2.JobEvent]:
        return self.log

    async def stream_events(self, node: Node, job_id: str, after_seq: int) -> AsyncIterator[Frame]:
        self.asked.append(after_seq)
        cut, heard = next(self.cuts), 0
        async with aclosing(super().stream_events(node, job_id, after_seq)) as frames:
            async for frame in frames:
                yield frame
                heard += len(frame.events.events)
                if cut and heard >= cut:
                    raise NodeUnreachable("the link was cut")

    def keep(self, path: str, data: bytes) -> blob_pb2.File:
        """A file of the node."""
        digest = hashlib.sha256(data).hexdigest()
        self.blobs[digest] = data
        return blob_pb2.File(path=path, digest=digest, size_bytes=len(data))

    def success(self, seq: int, *, report: bytes | None = None) -> job_event_pb2.JobEvent:
        """The end of a training with everything that it leaves."""
        told = job_event_pb2.TrainingReport(final_loss=1.25, best_loss=1.0, steps=100)
        succeeded = job_event_pb2.JobSucceeded(
            adapter_files=[self.keep("adapter_model.safetensors", b"weights"), self.keep("adapter_config.json", b"{}")],
            training_config=self.keep("training_config.json", b'{"device": "cpu fp32", "of_a_newer_node": 1}'),
            report_json=self.keep("report.json", report or json_format.MessageToJson(told).encode()),
            report_markdown=self.keep("report.md", b"# Report\n\0"),
        )
        return job_event_pb2.JobEvent(seq=seq, finished=job_event_pb2.JobFinished(succeeded=succeeded))


STARTED = job_event_pb2.JobEvent(seq=1, started=job_event_pb2.JobStarted(total_steps=100, total_epochs=2))
FAILED = job_event_pb2.JobFinished(
    failed=job_event_pb2.JobFailed(reason="OUT_OF_MEMORY", message="reduce batch_size", exit_code=1, stderr_tail="b\0m")
)


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Retries follow each other at once."""
    monkeypatch.setattr(loop, "RETRY_S", 0.001)
    monkeypatch.setattr(loop, "BATCH_S", 0.001)


@asynccontextmanager
async def ingesting(registry: Registry, trainer: Spool) -> AsyncIterator[Ingest]:
    """Ingest, with a task for each live job."""
    async with Ingest(registry.db, trainer, registry.blobs, DispatchConfig()) as ingest:
        await ingest.tick()
        yield ingest


async def claimed(registry: Registry) -> Job:
    """A job that its node has acknowledged."""
    _, job = await registry.claimed()
    await runs.mark_started(registry.db, job)
    return job


async def texts(db: Database) -> list[str]:
    async with db.connection() as conn:
        found = await fetch_all(conn, "SELECT text FROM log_lines ORDER BY attempt, rank, seq, line")
    return [row["text"] for row in found]


async def until(true: Callable[[], Awaitable[bool]]) -> None:
    """Wait until something is so."""
    async with asyncio.timeout(20):
        while not await true():  # noqa: ASYNC110  some of what is waited for wakes nobody
            await asyncio.sleep(0.005)


async def ended(registry: Registry, job: Job) -> None:
    async def terminal() -> bool:
        return (await registry.get(job)).state.terminal

    await until(terminal)


async def test_a_training_that_succeeds_leaves_its_adapter_and_report(registry):
    job = await claimed(registry)
    trainer = Spool(STARTED, metrics_event(2, {"loss": [2.0, 1.25]}, [0, 100]), logs_event(3, ["done"]))
    trainer.log.append(trainer.success(4))

    async with ingesting(registry, trainer):
        await ended(registry, job)

    run = await registry.get(job)
    assert (run.state, run.final_loss, run.step, run.total_steps) == (RunState.SUCCEEDED, 1.25, 100, 100)
    assert run.adapter_id and await texts(registry.db) == ["done"]
    assert set(trainer.blobs) <= set(registry.blobs.stored)


async def test_streams_that_break_off_lose_and_double_nothing(registry):
    job = await claimed(registry)
    trainer = Spool(STARTED, *[logs_event(seq, [f"line {seq}"]) for seq in range(2, 60)], cuts=(1, 2, 3, 5, 8, 13, 1))
    trainer.log.append(job_event_pb2.JobEvent(seq=60, finished=FAILED))

    async with ingesting(registry, trainer):
        await ended(registry, job)

    assert await texts(registry.db) == [f"line {seq}" for seq in range(2, 60)]
    assert trainer.asked[:4] == [0, 1, 3, 6]


async def test_a_control_plane_that_is_killed_anywhere_loses_and_doubles_nothing(registry):
    job = await claimed(registry)
    trainer = Spool(STARTED, *[logs_event(seq, [f"line {seq}"]) for seq in range(2, 300)])

    for _ in range(25):
        async with ingesting(registry, trainer):  # leaving cancels it wherever it is
            await asyncio.sleep(0.004)
    await trainer.add(job_event_pb2.JobEvent(seq=300, finished=FAILED))
    async with ingesting(registry, trainer):
        await ended(registry, job)

    assert await texts(registry.db) == [f"line {seq}" for seq in range(2, 300)]
    assert len(trainer.asked) > 2


async def test_the_end_of_a_failed_training_is_told_with_its_last_words(registry):
    job = await claimed(registry)
    trainer = Spool(STARTED, logs_event(2, ["Traceback"]), job_event_pb2.JobEvent(seq=3, finished=FAILED))

    async with ingesting(registry, trainer):
        await ended(registry, job)

    run = await registry.get(job)
    assert run.state is RunState.FAILED and run.adapter_id is None and run.failure is not None
    assert (run.failure.reason, run.failure.exit_code, run.failure.stderr_tail) == ("OUT_OF_MEMORY", 1, "b\ufffdm")
    assert await texts(registry.db) == ["Traceback"]


@pytest.mark.parametrize("report", [b"no json", b'{"final_loss": "much"}', b"[" * 100_000, b"x" * (9 << 20)])
async def test_a_success_whose_report_cannot_be_read_is_a_failure_that_says_so(registry, report):
    job = await claimed(registry)
    trainer = Spool(STARTED)
    trainer.log.append(trainer.success(2, report=report))

    async with ingesting(registry, trainer):
        await ended(registry, job)

    run = await registry.get(job)
    assert run.state is RunState.FAILED and run.adapter_id is None and run.failure is not None
    assert "resume the run" in run.failure.message


async def test_a_success_whose_files_the_node_has_lost_is_a_failure(registry):
    job = await claimed(registry)
    trainer = Spool(STARTED)
    trainer.log.append(trainer.success(2))
    del trainer.blobs[hashlib.sha256(b"weights").hexdigest()]

    async with ingesting(registry, trainer):
        await ended(registry, job)

    run = await registry.get(job)
    assert run.failure is not None and run.failure.reason == "BLOB_NOT_FOUND"


async def test_what_came_before_a_checkpoint_is_stored_while_its_files_are_copied(registry):
    await claimed(registry)
    copying, go_on = asyncio.Event(), asyncio.Event()

    class Slow(Spool):
        async def fetch_blob(self, node: Node, digest: str) -> AsyncIterator[bytes]:
            copying.set()
            await go_on.wait()
            yield self.blobs[digest]

    trainer = Slow(STARTED, logs_event(2, ["before"]))
    saved = job_event_pb2.CheckpointSaved(step=5, epoch=1, files=[trainer.keep("a.safetensors", b"a")])
    trainer.log += [job_event_pb2.JobEvent(seq=3, checkpoint_saved=saved), logs_event(4, ["after"])]

    async with ingesting(registry, trainer):
        await asyncio.wait_for(copying.wait(), 20)
        meanwhile = await texts(registry.db)
        go_on.set()

        async def all_there() -> bool:
            return await texts(registry.db) == ["before", "after"]

        await until(all_there)

    assert meanwhile == ["before"] and await registry.count("checkpoints") == 1


async def test_the_lease_is_kept_while_a_large_file_is_copied(registry, monkeypatch):
    job = await claimed(registry)
    renewed: list[str] = []

    class Large(Spool):
        async def fetch_blob(self, node: Node, digest: str) -> AsyncIterator[bytes]:
            for byte in self.blobs[digest]:
                await asyncio.sleep(0.01)
                yield bytes([byte])

    async def renew(_: Database, heard: Job, *, lease_s: float) -> None:
        renewed.append(heard.job_id)

    monkeypatch.setattr(commands, "renew_lease", renew)
    trainer = Large(STARTED)
    saved = job_event_pb2.CheckpointSaved(step=5, epoch=1, files=[trainer.keep("a.safetensors", bytes(range(20)))])
    trainer.log += [
        job_event_pb2.JobEvent(seq=2, checkpoint_saved=saved),
        job_event_pb2.JobEvent(seq=3, finished=FAILED),
    ]

    async with Ingest(registry.db, trainer, registry.blobs, DispatchConfig(lease_s=0.1, poll_s=0.05)) as ingest:
        await ingest.tick()
        await ended(registry, job)

    assert len(renewed) >= 2 and await registry.count("checkpoints") == 1


async def test_a_heartbeat_renews_the_lease(registry):
    job = await claimed(registry)
    await registry.lapse(job)

    class Beating(Spool):
        async def stream_events(self, node: Node, job_id: str, after_seq: int) -> AsyncIterator[Frame]:
            yield HEARTBEAT
            await asyncio.Event().wait()

    async def renewed() -> bool:
        async with registry.db.connection() as conn:
            return bool((await fetch_all(conn, "SELECT lease_until > now() AS alive FROM jobs"))[0]["alive"])

    async with ingesting(registry, Beating()):
        await until(renewed)


async def test_a_job_whose_attempt_is_over_is_stopped_on_its_node(registry):
    job = await claimed(registry)
    trainer = Spool(STARTED)

    async with ingesting(registry, trainer):

        async def begun() -> bool:
            return (await registry.get(job)).state is RunState.RUNNING

        await until(begun)
        await runs.lose_attempt(registry.db, job, "nothing was heard of it")
        await trainer.add(logs_event(2, ["late"]))

        async def stopped() -> bool:
            return trainer.stopped == [job.job_id]

        await until(stopped)

    assert await texts(registry.db) == []


async def test_a_lone_event_is_stored_at_once_and_a_busy_stream_in_few_batches(registry, monkeypatch):
    monkeypatch.setattr(loop, "BATCH_S", 0.2)
    await claimed(registry)
    trainer = Spool(STARTED)
    stored: list[tuple[float, int]] = []
    apply = commands.apply_events

    async def watched(db: Database, blobs: Blobs, job: Job, events: Events, **limits: Any) -> commands.Applied:
        applied = await apply(db, blobs, job, events, **limits)
        stored.append((time.monotonic(), applied.last_seq))
        return applied

    async def up_to(seq: int) -> None:
        async def there() -> bool:
            return bool(stored) and stored[-1][1] >= seq

        await until(there)

    monkeypatch.setattr(commands, "apply_events", watched)
    async with ingesting(registry, trainer):
        await up_to(1)
        await asyncio.sleep(0.3)
        added = time.monotonic()
        await trainer.add(logs_event(2, ["alone"]))
        await up_to(2)
        delay_s = stored[-1][0] - added
        for seq in range(3, 103):
            await trainer.add(logs_event(seq, ["one of many"]))
            await asyncio.sleep(0.005)
        await up_to(102)

    assert delay_s < 2, "it waited for company; idle it takes some 10 ms"
    assert len(stored) < 60


async def test_only_jobs_that_a_node_has_are_followed(registry):
    await registry.claimed()
    trainer = Spool(STARTED)

    async with ingesting(registry, trainer):
        await asyncio.sleep(0.01)

    assert trainer.asked == []


async def test_a_silent_stream_is_given_up():
    async def nothing() -> AsyncIterator[Frame]:
        await asyncio.Event().wait()
        yield HEARTBEAT

    async with Inbox(nothing()) as inbox:
        with pytest.raises(NodeUnreachable, match="no sign of life"):
            await inbox.take(within_s=0.01)


async def test_a_node_that_sends_faster_than_it_can_be_stored_is_held_back():
    sent = 0

    async def fast() -> AsyncIterator[Frame]:
        nonlocal sent
        while True:
            sent += 1
            yield Frame(events=trainer_pb2.JobEvents(events=[logs_event(sent, ["x" * 100_000])]))

    async with Inbox(fast()) as inbox:
        await asyncio.sleep(0.01)
        held = sent
        arrived = await inbox.take(within_s=1)

    assert held * 100_000 <= CAPACITY_BYTES + 200_000
    assert [event.seq for event in arrived.events] == list(range(1, len(arrived.events) + 1))


async def test_what_came_before_a_stream_failed_is_taken_first():
    async def failing() -> AsyncIterator[Frame]:
        yield Frame(events=trainer_pb2.JobEvents(events=[logs_event(1, ["a"])]))
        raise NodeUnreachable("cut")

    async with Inbox(failing()) as inbox:
        await asyncio.sleep(0)
        first = await inbox.take(within_s=1)

        assert [event.seq for event in first.events] == [1] and not first.ended
        with pytest.raises(NodeUnreachable, match="cut"):
            await inbox.take(within_s=1)
