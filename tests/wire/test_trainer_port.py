"""The port `Trainer`: what the loops rely on, of a node behind a socket and of the fake that stands for nodes in tests.

The real node runs real processes with an engine of seconds.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
import pytest_asyncio

from control_plane.errors import NodeRefused, NodeUnreachable
from control_plane.nodes.model import Node
from control_plane.ports import Trainer
from services.blob_service import BlobService
from services.blob_store import BlobStore
from services.rpc.server import ServerOptions, build_server, serving
from services.trainer_client import TrainerClients
from services.trainer_service import TrainerService
from tests.support.fakes import FakeTrainer, node_at
from tests.support.node_jobs import MemorySource, fake_jobs, make_job, node_config
from tests.support.telemetry_load import logs_event, metrics_event
from tunesmith.v1 import job_event_pb2, trainer_pb2

HEARTBEAT_S = 0.05
UNKNOWN = make_job("quick", run="unknown").job_id


@dataclass
class Site:
    """A node with one slot, one that is not there, and the port to both.

    start: start a job that ends by itself ("quick") or when it is stopped ("steady"), or that has nothing to tell
    ("waiting"). put: store a blob on the node.
    """

    trainer: Trainer
    node: Node
    gone: Node
    start: Callable[[trainer_pb2.Job], Awaitable[None]]
    put: Callable[[bytes], Awaitable[str]]


@asynccontextmanager
async def real_site(folder: Path) -> AsyncIterator[Site]:
    config, source = node_config(folder, slots=1, heartbeat_s=HEARTBEAT_S), MemorySource()
    source.open.clear()
    async with AsyncExitStack() as stack:
        jobs = await stack.enter_async_context(fake_jobs(config, source))
        blobs = BlobStore(str(config.blobs_dir))
        services = [TrainerService(jobs), BlobService(blobs)]
        server = build_server(services, listen="127.0.0.1:0", options=ServerOptions(grace_s=0.1))
        node = node_at(await stack.enter_async_context(serving(server)))
        trainer = await stack.enter_async_context(TrainerClients())

        async def start(job: trainer_pb2.Job) -> None:
            await trainer.start_job(node, job)

        yield Site(trainer, node, node_at("127.0.0.1:1"), start, blobs.put_bytes)
        for status in await trainer.list_jobs(node):
            await trainer.stop_job(node, status.job_id, 0)
            await events(trainer, node, status.job_id)


@asynccontextmanager
async def fake_site() -> AsyncIterator[Site]:
    trainer = FakeTrainer(heartbeat_s=HEARTBEAT_S)
    node, gone = node_at("127.0.0.1:1"), node_at("127.0.0.1:2", name="gone")
    trainer.silent.add(gone.name)
    end = job_event_pb2.JobFinished(succeeded=job_event_pb2.JobSucceeded())
    told = {
        "quick": [
            metrics_event(1, {"loss": [1.0]}, [1]),
            logs_event(2, ["line"]),
            job_event_pb2.JobEvent(seq=3, finished=end),
        ],
        "steady": [logs_event(1, ["line"])],
        "waiting": [],
    }

    async def start(job: trainer_pb2.Job) -> None:
        running = [one for one in trainer.started if one.run_id != job.run_id]
        if running:  # its only slot is taken
            trainer.refusals[node.name] = "NODE_FULL"
        await trainer.start_job(node, job)
        log = trainer.logs[job.job_id]
        await trainer.tell(log, *told[job.spec.supervised.adapter.base_model][len(log) :])

    async def put(data: bytes) -> str:
        digest = hashlib.sha256(data).hexdigest()
        trainer.blobs[digest] = data
        return digest

    yield Site(trainer, node, gone, start, put)


@pytest_asyncio.fixture(params=["real", "fake"])
async def site(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Site]:
    async with real_site(tmp_path) if request.param == "real" else fake_site() as site:
        yield site


def waiting_job() -> trainer_pb2.Job:
    """A job whose data does not come."""
    return make_job("waiting", dataset_digest="1" * 64)


async def events(trainer: Trainer, node: Node, job_id: str, after_seq: int = 0) -> list[job_event_pb2.JobEvent]:
    """The events of a job to the end of its stream."""
    async with asyncio.timeout(20):
        frames = [frame async for frame in trainer.stream_events(node, job_id, after_seq)]
    return [event for frame in frames for event in frame.events.events]


async def read(chunks: AsyncIterator[bytes]) -> bytes:
    return b"".join([chunk async for chunk in chunks])


async def listed(site: Site) -> dict[str, tuple[str, int, bool]]:
    """Run, attempt and whether it has ended, by job."""
    jobs = await site.trainer.list_jobs(site.node)
    assert len(jobs) == len({job.job_id for job in jobs})
    return {job.job_id: (job.run_id, job.attempt, job.state == trainer_pb2.JOB_STATE_ENDED) for job in jobs}


async def ended(site: Site, job_id: str) -> None:
    """Wait until the node says that a job has ended; its process may outlive its last event for a moment."""
    async with asyncio.timeout(20):
        while not (await listed(site))[job_id][2]:  # noqa: ASYNC110 - no event tells
            await asyncio.sleep(0.01)


async def refused(call: Awaitable[object]) -> str:
    with pytest.raises(NodeRefused) as caught:
        await call
    return caught.value.given_reason


async def test_a_job_that_is_started_again_is_one_job(site: Site):
    job = make_job("steady")

    for _ in range(3):
        await site.start(job)

    assert await listed(site) == {job.job_id: (job.run_id, 1, False)}


async def test_a_node_without_a_free_slot_refuses_new_jobs_and_knows_those_that_it_has(site: Site):
    job, other = make_job("steady"), make_job("steady", run="other")
    await site.start(job)

    assert await refused(site.start(other)) == "NODE_FULL"

    await site.start(job)
    assert list(await listed(site)) == [job.job_id]


async def test_a_higher_attempt_ends_the_one_before_and_a_lower_one_is_refused(site: Site):
    first, second, third = (make_job("steady", attempt=attempt) for attempt in (1, 2, 3))
    await site.start(first)

    await site.start(third)

    assert await refused(site.start(second)) == "LEASE_LOST"
    await ended(site, first.job_id)
    assert (await listed(site))[third.job_id] == (third.run_id, 3, False)


async def test_a_job_that_is_asked_to_stop_ends_as_cancelled_and_stays_listed(site: Site):
    job = make_job("steady")
    await site.start(job)

    for _ in range(2):
        await site.trainer.stop_job(site.node, job.job_id, 8)
    told = await events(site.trainer, site.node, job.job_id)

    assert told[-1].finished.HasField("cancelled")
    await ended(site, job.job_id)
    await site.trainer.stop_job(site.node, job.job_id, 8)
    assert await events(site.trainer, site.node, job.job_id) == told


async def test_events_count_from_one_and_a_stream_goes_on_behind_any_of_them(site: Site):
    job = make_job("quick", steps=3)
    await site.start(job)

    told = await events(site.trainer, site.node, job.job_id)

    assert [event.seq for event in told] == list(range(1, len(told) + 1))
    assert [event.HasField("finished") for event in told] == [False] * (len(told) - 1) + [True]
    assert told[-1].finished.HasField("succeeded")
    for after in (1, 2, len(told) - 1, len(told)):
        assert await events(site.trainer, site.node, job.job_id, after) == told[after:]


async def test_a_job_without_news_gives_heartbeats_and_then_its_news(site: Site):
    job = waiting_job()
    await site.start(job)
    stream = site.trainer.stream_events(site.node, job.job_id, 0)

    async with asyncio.timeout(20):
        silent = [(await anext(stream)).WhichOneof("frame") for _ in range(3)]
        await site.trainer.stop_job(site.node, job.job_id, 0)
        after = [event async for frame in stream for event in frame.events.events]

    assert silent == ["heartbeat"] * 3
    assert [event.finished.HasField("cancelled") for event in after] == [True]


async def test_a_job_that_the_node_does_not_have_is_said_so(site: Site):
    assert await refused(site.trainer.stop_job(site.node, UNKNOWN, 8)) == "JOB_NOT_FOUND"
    assert await refused(events(site.trainer, site.node, UNKNOWN)) == "JOB_NOT_FOUND"
    assert await listed(site) == {}


async def test_a_number_that_a_job_has_not_reached_is_refused(site: Site):
    job = waiting_job()
    await site.start(job)

    assert await refused(events(site.trainer, site.node, job.job_id, 1000)) == "OFFSET_OUT_OF_RANGE"


async def test_a_blob_comes_whole_in_chunks_of_at_most_a_mebibyte(site: Site):
    for data in (b"", b"weights", bytes(range(256)) * 10_000):
        digest = await site.put(data)

        chunks = [chunk async for chunk in site.trainer.fetch_blob(site.node, digest)]

        assert b"".join(chunks) == data
        assert all(len(chunk) <= 1 << 20 for chunk in chunks)


async def test_a_blob_that_the_node_does_not_have_is_said_so(site: Site):
    assert await refused(read(site.trainer.fetch_blob(site.node, "1" * 64))) == "BLOB_NOT_FOUND"


async def test_a_node_that_is_not_there_is_unreachable_by_every_call(site: Site):
    trainer, gone = site.trainer, site.gone
    calls: list[Awaitable[object]] = [
        trainer.start_job(gone, make_job("quick")),
        trainer.stop_job(gone, UNKNOWN, 8),
        trainer.list_jobs(gone),
        events(trainer, gone, UNKNOWN),
        read(trainer.fetch_blob(gone, "1" * 64)),
    ]

    for call in calls:
        with pytest.raises(NodeUnreachable) as caught:
            await call
        assert caught.value.metadata["node_id"] == gone.node_id
