"""The node's side of its control plane: say again and again that it is there, and fetch what its jobs need.

The control plane may be away for any time. Nothing here gives up before a person would: registering is repeated for
ever, a download goes on from the byte where it broke off.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable

import grpc
import structlog

from trainer_node.errors import BlobNotFound, InputsUnavailable
from tunesmith.client.channel import channel_options
from tunesmith.v1 import blob_pb2, blob_pb2_grpc, node_pb2, node_pb2_grpc

CALL_S = 5.0  # a registration without an answer for this long is tried again
FIRST_WAIT_S, LONGEST_WAIT_S = 0.5, 10.0  # between two tries while the control plane is away
GIVE_UP_S = 600.0  # a download that gets no byte for this long fails its job
_FINAL_CODES = (grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.UNIMPLEMENTED, grpc.StatusCode.OUT_OF_RANGE)

log = structlog.get_logger()

Sleep = Callable[[float], Awaitable[None]]


class ControlPlaneLink:
    """The control plane at the other end of `channel`, seen from a node."""

    def __init__(self, channel: grpc.aio.Channel, *, sleep: Sleep = asyncio.sleep) -> None:
        self._nodes = node_pb2_grpc.NodeServiceStub(channel)
        self._blobs = blob_pb2_grpc.BlobServiceStub(channel)
        self._sleep = sleep

    async def stay_registered(self, node: node_pb2.Node) -> None:
        """Register `node` for ever, as often as the control plane wishes. Ends by cancellation only."""
        waits = _Waits()
        known = False
        while True:
            try:
                answer = await self._nodes.RegisterNode(node_pb2.RegisterNodeRequest(node=node), timeout=CALL_S)
            except grpc.aio.AioRpcError as error:
                log.warning("node_not_registered", code=error.code().name, error=error.details())
                known = False
                await self._sleep(waits.next())
                continue
            if not known:
                log.info("node_registered", node_id=answer.node.node_id, name=answer.node.name)
            known, waits = True, _Waits()
            await self._sleep(answer.next_register_s or LONGEST_WAIT_S)

    async def fetch(self, digest: str) -> AsyncIterator[bytes]:
        """The bytes of a blob of the control plane, across outages. Raises BlobNotFound, InputsUnavailable."""
        offset, size, waits, last_byte = 0, None, _Waits(), time.monotonic()
        while size is None or offset < size:
            request = blob_pb2.DownloadBlobRequest(digest=digest, offset=offset)
            try:
                async for chunk in self._blobs.DownloadBlob(request, wait_for_ready=False):
                    size = chunk.size_bytes
                    offset += len(chunk.data)
                    waits, last_byte = _Waits(), time.monotonic()
                    if chunk.data:
                        yield chunk.data
            except grpc.aio.AioRpcError as error:
                self._require_hope(error, digest, silent_s=time.monotonic() - last_byte)
                log.warning("blob_download_broken", digest=digest, offset=offset, code=error.code().name)
                await self._sleep(waits.next())

    def _require_hope(self, error: grpc.aio.AioRpcError, digest: str, *, silent_s: float) -> None:
        """Raise unless the same call may succeed later."""
        if error.code() is grpc.StatusCode.NOT_FOUND:
            raise BlobNotFound(f"the control plane has no blob {digest}", digest=digest) from error
        if error.code() in _FINAL_CODES or silent_s > GIVE_UP_S:
            what = f"blob {digest} could not be fetched from the control plane ({error.code().name}: {error.details()})"
            go_on = "check the connection, then resume the run or create a new one"
            raise InputsUnavailable(f"{what}; {go_on}", digest=digest) from error


class _Waits:
    """How long to wait after each failure in a row: twice as long each time, with jitter, up to a limit."""

    def __init__(self) -> None:
        self._wait_s = FIRST_WAIT_S

    def next(self) -> float:
        wait_s = self._wait_s
        self._wait_s = min(LONGEST_WAIT_S, wait_s * 2)
        return wait_s * random.uniform(0.5, 1.0)


def open_channel(address: str) -> grpc.aio.Channel:
    """A channel to the control plane at `address`, which need not be up yet."""
    return grpc.aio.insecure_channel(address, options=channel_options())
