"""The port `Trainer` by gRPC, against a node that this test plays."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field

import pytest
import pytest_asyncio

from control_plane.errors import NodeRefused, NodeUnreachable
from control_plane.ids import new_id
from control_plane.nodes.model import Node
from services import trainer_client
from services.rpc.calls import Context
from services.rpc.server import ServerOptions, build_server, serving
from services.trainer_client import TrainerClients
from tests.support.control_plane import small_spec
from tests.support.fakes import node_at
from tests.support.telemetry_load import logs_event
from trainer_node.errors import BlobNotFound, JobNotFound, NodeFull
from tunesmith.client.channel import channel_options
from tunesmith.errors import TunesmithError
from tunesmith.v1 import blob_pb2, blob_pb2_grpc, run_pb2, trainer_pb2, trainer_pb2_grpc

JOB = trainer_pb2.Job(job_id=new_id("job"), run_id=new_id("run"), attempt=1, spec=small_spec())
BLOB = bytes(range(256)) * 40


class GoesAway(TunesmithError):
    """A node that is stopping, as its server answers then."""

    reason = "UNAVAILABLE"


@dataclass
class PlayedNode(trainer_pb2_grpc.TrainerServiceServicer):
    """A node with one blob, which breaks off each download after `break_after` chunks."""

    full: bool = False
    break_after: int = 1000
    shift: int = 0
    started: list[str] = field(default_factory=list)
    stopped: list[tuple[str, float]] = field(default_factory=list)
    offsets: list[int] = field(default_factory=list)
    left: asyncio.Event = field(default_factory=asyncio.Event)

    async def StartJob(self, request: trainer_pb2.StartJobRequest, context: Context) -> trainer_pb2.StartJobResponse:
        if self.full:
            raise NodeFull("every slot is taken; wait until one is free")
        self.started.append(request.job.job_id)
        return trainer_pb2.StartJobResponse()

    async def StopJob(self, request: trainer_pb2.StopJobRequest, context: Context) -> trainer_pb2.StopJobResponse:
        self.stopped.append((request.job_id, request.grace_s))
        return trainer_pb2.StopJobResponse()

    async def GetJobs(self, request: trainer_pb2.GetJobsRequest, context: Context) -> trainer_pb2.GetJobsResponse:
        return trainer_pb2.GetJobsResponse(jobs=[trainer_pb2.JobStatus(job_id=JOB.job_id)])

    async def StreamJobEvents(
        self, request: trainer_pb2.StreamJobEventsRequest, context: Context
    ) -> AsyncIterator[trainer_pb2.StreamJobEventsResponse]:
        if request.job_id != JOB.job_id:
            raise JobNotFound("no such job; it may have been forgotten")
        events = [logs_event(request.after_seq + 1, ["a"])]
        try:
            yield trainer_pb2.StreamJobEventsResponse(events=trainer_pb2.JobEvents(events=events))
            while True:
                yield trainer_pb2.StreamJobEventsResponse(heartbeat=run_pb2.Heartbeat())
                await asyncio.Event().wait()
        finally:
            self.left.set()

    async def DownloadBlob(
        self, request: blob_pb2.DownloadBlobRequest, context: Context
    ) -> AsyncIterator[blob_pb2.DownloadBlobResponse]:
        if request.digest != "a" * 64:
            raise BlobNotFound("there is no such blob")
        self.offsets.append(request.offset)
        for chunk in range(self.break_after):
            at = request.offset + chunk * 1000
            if at >= len(BLOB):
                return
            yield blob_pb2.DownloadBlobResponse(offset=at + self.shift, data=BLOB[at : at + 1000], size_bytes=len(BLOB))
        raise GoesAway("the node is going down")


@pytest_asyncio.fixture
async def played() -> AsyncIterator[tuple[PlayedNode, Node, TrainerClients]]:
    """A node, as the registry knows it, and the client."""
    async with AsyncExitStack() as stack:
        servicer = PlayedNode()
        server = build_server([servicer, Blobs(servicer)], listen="127.0.0.1:0", options=ServerOptions(grace_s=0.1))
        address = await stack.enter_async_context(serving(server))
        clients = await stack.enter_async_context(TrainerClients())
        yield servicer, node_at(address), clients


class Blobs(blob_pb2_grpc.BlobServiceServicer):
    """The blobs of a node; a servicer is one service."""

    def __init__(self, node: PlayedNode) -> None:
        self.DownloadBlob = node.DownloadBlob


async def read(chunks: AsyncIterator[bytes]) -> bytes:
    return b"".join([chunk async for chunk in chunks])


async def test_orders_reach_the_node(played):
    servicer, node, clients = played

    await clients.start_job(node, JOB)
    await clients.stop_job(node, JOB.job_id, 8.0)
    jobs = await clients.list_jobs(node)

    assert servicer.started == [JOB.job_id] and servicer.stopped == [(JOB.job_id, 8.0)]
    assert [job.job_id for job in jobs] == [JOB.job_id]


async def test_a_refusal_carries_the_nodes_reason(played):
    servicer, node, clients = played
    servicer.full = True

    with pytest.raises(NodeRefused, match="every slot is taken") as starting:
        await clients.start_job(node, JOB)
    with pytest.raises(NodeRefused) as reading:
        await anext(aiter(clients.stream_events(node, new_id("job"), 0)))
    with pytest.raises(NodeRefused) as fetching:
        await read(clients.fetch_blob(node, "b" * 64))

    reasons = [found.value.given_reason for found in (starting, reading, fetching)]
    assert reasons == ["NODE_FULL", "JOB_NOT_FOUND", "BLOB_NOT_FOUND"]


async def test_a_node_that_is_not_there_is_unreachable_at_once():
    began = time.monotonic()

    async with TrainerClients() as clients:
        with pytest.raises(NodeUnreachable, match="does not answer"):
            await clients.start_job(node_at("127.0.0.1:1"), JOB)

    assert time.monotonic() - began < 5


async def test_events_come_from_the_number_that_was_asked_for_and_leaving_ends_the_stream(played):
    servicer, node, clients = played
    stream = clients.stream_events(node, JOB.job_id, 41)

    first = await anext(stream)
    await stream.aclose()

    assert first.events.events[0].seq == 42
    await asyncio.wait_for(servicer.left.wait(), 5)


async def test_a_node_that_goes_away_ends_the_stream_as_unreachable():
    async with TrainerClients() as clients:
        server = build_server([PlayedNode()], listen="127.0.0.1:0", options=ServerOptions(grace_s=0.1))
        async with serving(server) as address:
            stream = clients.stream_events(node_at(address), JOB.job_id, 0)
            await anext(stream)
            await anext(stream)

        with pytest.raises(NodeUnreachable):
            await anext(stream)


async def test_a_frozen_node_is_noticed(monkeypatch):
    quick = {"grpc.keepalive_time_ms": 600, "grpc.keepalive_timeout_ms": 400, "grpc.http2.ping_timeout_ms": 400}
    options = [(name, quick.get(name, value)) for name, value in channel_options()]
    monkeypatch.setattr(trainer_client, "channel_options", lambda: options)
    server = build_server([PlayedNode()], listen="127.0.0.1:0", options=ServerOptions(grace_s=0.1))
    async with serving(server) as address, freezing(address) as (proxy, freeze), TrainerClients() as clients:
        stream = clients.stream_events(node_at(proxy), JOB.job_id, 0)
        await anext(stream)
        await anext(stream)

        freeze.set()

        with pytest.raises(NodeUnreachable):
            await asyncio.wait_for(anext(stream), 10)


@asynccontextmanager
async def freezing(address: str) -> AsyncIterator[tuple[str, asyncio.Event]]:
    """A way to `address` that, once frozen, keeps its connections open and passes nothing on."""
    frozen = asyncio.Event()
    host, _, port = address.rpartition(":")

    async def pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            if not frozen.is_set():
                writer.write(data)
                await writer.drain()
        writer.close()

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there_reader, there_writer = await asyncio.open_connection(host, int(port))
        await asyncio.gather(pass_on(reader, there_writer), pass_on(there_reader, writer), return_exceptions=True)

    server = await asyncio.start_server(connected, "127.0.0.1", 0)
    try:
        yield f"127.0.0.1:{server.sockets[0].getsockname()[1]}", frozen
    finally:
        server.close()


async def test_a_download_that_breaks_off_goes_on_where_it_stopped(played):
    servicer, node, clients = played
    servicer.break_after = 4

    data = await read(clients.fetch_blob(node, "a" * 64))

    assert data == BLOB and servicer.offsets == [0, 4000, 8000]


async def test_a_download_that_never_gets_on_is_given_up(played):
    servicer, node, clients = played
    servicer.break_after = 0

    with pytest.raises(NodeUnreachable):
        await read(clients.fetch_blob(node, "a" * 64))

    assert len(servicer.offsets) == 4


async def test_bytes_from_elsewhere_are_refused(played):
    servicer, node, clients = played
    servicer.shift = 1

    with pytest.raises(NodeRefused) as refused:
        await read(clients.fetch_blob(node, "a" * 64))

    assert refused.value.given_reason == "BLOB_CORRUPT"
