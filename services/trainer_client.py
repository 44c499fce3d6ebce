"""The control plane's port `Trainer`, by gRPC: one channel a node address, kept while the program runs.

No call waits for a node to come back: a node that cannot be reached is NodeUnreachable at once, since whoever asked is
a loop that asks again. A frozen node is noticed by the ping timeout of the channel's options, a stream that is alive
and silent by whoever reads it.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from types import TracebackType

import grpc

from control_plane.errors import NodeRefused, NodeUnreachable
from control_plane.nodes.model import Node
from tunesmith.client.channel import channel_options
from tunesmith.client.errors import Unreachable, from_rpc_error
from tunesmith.errors import TunesmithError
from tunesmith.v1 import blob_pb2, blob_pb2_grpc, trainer_pb2, trainer_pb2_grpc

CALL_TIMEOUT_S = 10.0  # of everything that is no stream
RESUMES = 3  # how often a download that broke off goes on where it stopped, without a byte in between


class TrainerClients:
    """The trainer nodes as their control plane reaches them. Enter it; leaving closes the channels."""

    def __init__(self) -> None:
        self._stack = AsyncExitStack()
        self._channels: dict[str, grpc.aio.Channel] = {}

    async def __aenter__(self) -> TrainerClients:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._channels.clear()
        await self._stack.aclose()

    async def start_job(self, node: Node, job: trainer_pb2.Job) -> None:
        """Start a job; starting a known one again changes nothing. Raises NodeUnreachable, NodeRefused."""
        try:
            await self._trainer(node).StartJob(trainer_pb2.StartJobRequest(job=job), timeout=CALL_TIMEOUT_S)
        except grpc.aio.AioRpcError as error:
            raise _failure(node, error) from error

    async def stop_job(self, node: Node, job_id: str, grace_s: float) -> None:
        """Ask a job to stop; killed after `grace_s` seconds. Raises NodeUnreachable, NodeRefused."""
        request = trainer_pb2.StopJobRequest(job_id=job_id, grace_s=grace_s)
        try:
            await self._trainer(node).StopJob(request, timeout=CALL_TIMEOUT_S)
        except grpc.aio.AioRpcError as error:
            raise _failure(node, error) from error

    async def list_jobs(self, node: Node) -> list[trainer_pb2.JobStatus]:
        """The jobs that the node has. Raises NodeUnreachable, NodeRefused."""
        try:
            response = await self._trainer(node).GetJobs(trainer_pb2.GetJobsRequest(), timeout=CALL_TIMEOUT_S)
        except grpc.aio.AioRpcError as error:
            raise _failure(node, error) from error
        return list(response.jobs)

    async def stream_events(
        self, node: Node, job_id: str, after_seq: int
    ) -> AsyncIterator[trainer_pb2.StreamJobEventsResponse]:
        """The events after `after_seq`, then each as it comes, and heartbeats; ends after JobFinished.

        Raises NodeUnreachable, NodeRefused.
        """
        request = trainer_pb2.StreamJobEventsRequest(job_id=job_id, after_seq=after_seq)
        call = self._trainer(node).StreamJobEvents(request)
        try:
            async for response in call:
                yield response
        except grpc.aio.AioRpcError as error:
            raise _failure(node, error) from error
        finally:
            call.cancel()  # tells the node at once that nobody reads on

    async def fetch_blob(self, node: Node, digest: str) -> AsyncIterator[bytes]:
        """A blob of the node, in chunks; goes on where it stopped when the connection breaks.

        Raises NodeUnreachable, NodeRefused. Whether the bytes have the digest is for the reader to check.
        """
        offset, failures = 0, 0
        while True:
            try:
                async for chunk in self._download(node, digest, offset):
                    yield chunk
                    offset += len(chunk)
                    failures = 0
            except NodeUnreachable:
                failures += 1
                if failures > RESUMES:
                    raise
            else:
                return

    async def _download(self, node: Node, digest: str, offset: int) -> AsyncIterator[bytes]:
        request = blob_pb2.DownloadBlobRequest(digest=digest, offset=offset)
        call = blob_pb2_grpc.BlobServiceStub(self._channel(node)).DownloadBlob(request)
        try:
            async for response in call:
                if response.offset != offset:
                    what = f"node {node.name} sent bytes from {response.offset} where {offset} was asked for"
                    raise NodeRefused(what, given_reason="BLOB_CORRUPT")
                offset += len(response.data)
                yield response.data
        except grpc.aio.AioRpcError as error:
            raise _failure(node, error) from error
        finally:
            call.cancel()

    def _trainer(self, node: Node) -> trainer_pb2_grpc.TrainerServiceAsyncStub:
        return trainer_pb2_grpc.TrainerServiceStub(self._channel(node))

    def _channel(self, node: Node) -> grpc.aio.Channel:
        channel = self._channels.get(node.address)
        if channel is None:
            channel = grpc.aio.insecure_channel(node.address, options=channel_options())
            self._channels[node.address] = channel
            self._stack.push_async_callback(channel.close)
        return channel


def _failure(node: Node, error: grpc.aio.AioRpcError) -> TunesmithError:
    """What a failed call says about the node: out of reach, or its answer."""
    found = from_rpc_error(error, node.address)
    if isinstance(found, Unreachable) or found.code in ("UNAVAILABLE", "DEADLINE_EXCEEDED"):
        return NodeUnreachable(
            f"node {node.name} at {node.address} does not answer ({error.details()})", node_id=node.node_id
        )
    return NodeRefused(f"node {node.name}: {found.message}", given_reason=found.reason)
