"""The node's link to its control plane: it joins, stays, and fetches, whatever the control plane does meanwhile."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import grpc
import pytest

from services import main_trainer_node
from services.blob_service import BlobService
from services.blob_store import BlobStore
from services.node_registration import ControlPlaneLink, open_channel
from services.rpc.server import ServerOptions, build_server, serving
from services.settings import ConfigError
from tests.support.node_jobs import node_config
from trainer_node.engines.registry import KINDS
from trainer_node.errors import BlobNotFound, InputsUnavailable
from tunesmith.v1 import blob_pb2, blob_pb2_grpc, node_pb2, node_pb2_grpc, trainer_pb2, trainer_pb2_grpc


class Registry(node_pb2_grpc.NodeServiceServicer):
    """Remembers who registered; refuses the first `refusals` calls."""

    def __init__(self, refusals: int = 0) -> None:
        self.refusals = refusals
        self.seen: list[node_pb2.Node] = []
        self.heard = asyncio.Event()

    async def RegisterNode(self, request, context):
        if self.refusals:
            self.refusals -= 1
            raise RuntimeError("not yet")
        self.seen.append(request.node)
        self.heard.set()
        return node_pb2.RegisterNodeResponse(node=request.node, next_register_s=0.01)


class BreakingBlobs(blob_pb2_grpc.BlobServiceServicer):
    """Serves five bytes a call, then breaks the connection."""

    DATA = b"seventeen bytes.."

    async def DownloadBlob(self, request, context) -> AsyncIterator[blob_pb2.DownloadBlobResponse]:
        data = self.DATA[request.offset : request.offset + 5]
        yield blob_pb2.DownloadBlobResponse(offset=request.offset, data=data, size_bytes=len(self.DATA))
        if request.offset + 5 < len(self.DATA):
            await context.abort(grpc.StatusCode.UNAVAILABLE, "going down")


def control_plane(*servicers: object, listen: str = "127.0.0.1:0"):
    return build_server(servicers, listen=listen, options=ServerOptions(grace_s=0.1))


async def no_wait(_: float) -> None:
    await asyncio.sleep(0.005)


NODE = node_pb2.Node(name="one", address="127.0.0.1:1", slots=1)


async def test_a_node_stays_registered_across_failures_and_a_restart() -> None:
    first = control_plane(registry := Registry(refusals=2))
    async with open_channel(first.address) as channel:
        link = asyncio.create_task(ControlPlaneLink(channel, sleep=no_wait).stay_registered(NODE))
        async with serving(first) as address:
            await asyncio.wait_for(registry.heard.wait(), 10)
        async with serving(control_plane(second := Registry(), listen=address)):
            await asyncio.wait_for(second.heard.wait(), 10)
        link.cancel()

    assert second.seen[0] == NODE


async def test_a_download_goes_on_where_it_broke_off() -> None:
    async with serving(control_plane(BreakingBlobs())) as address, open_channel(address) as channel:
        link = ControlPlaneLink(channel, sleep=no_wait)

        chunks = [chunk async for chunk in link.fetch("0" * 64)]

    assert chunks == [b"seven", b"teen ", b"bytes", b".."]


async def test_a_blob_that_is_not_there_is_not_waited_for(tmp_path: Path) -> None:
    store = BlobStore(str(tmp_path))
    empty = await store.put_bytes(b"")
    async with serving(control_plane(BlobService(store))) as address, open_channel(address) as channel:
        link = ControlPlaneLink(channel, sleep=no_wait)

        assert [chunk async for chunk in link.fetch(empty)] == []
        with pytest.raises(BlobNotFound):
            [chunk async for chunk in link.fetch("1" * 64)]


async def test_a_control_plane_that_stays_away_fails_the_download(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("services.node_registration.GIVE_UP_S", 0.05)
    async with open_channel("127.0.0.1:1") as channel:
        with pytest.raises(InputsUnavailable, match="then resume the run"):
            [chunk async for chunk in ControlPlaneLink(channel, sleep=no_wait).fetch("1" * 64)]


async def test_the_program_serves_its_jobs_joins_and_stops_when_asked(tmp_path: Path) -> None:
    registry, stop = Registry(), asyncio.Event()
    bound: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    async with serving(control_plane(registry)) as address:
        config = node_config(tmp_path, control_plane=address, name="one", slots=2)
        program = asyncio.create_task(main_trainer_node.run(config, stop=stop, ready=bound.set_result))
        async with grpc.aio.insecure_channel(await bound) as channel:
            stub = trainer_pb2_grpc.TrainerServiceStub(channel)
            assert list((await stub.GetJobs(trainer_pb2.GetJobsRequest())).jobs) == []
        await asyncio.wait_for(registry.heard.wait(), 10)

        with pytest.raises(ConfigError, match="used by another trainer node"):
            await main_trainer_node.run(config, stop=stop, ready=lambda _: None)
        stop.set()
        await asyncio.wait_for(program, 10)

    node = registry.seen[0]
    assert (node.name, node.address, node.slots, list(node.kinds)) == ("one", bound.result(), 2, sorted(KINDS))
    assert node.device


async def test_a_node_is_not_opened_to_the_network_by_accident(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="nothing is encrypted"):
        await main_trainer_node.run(
            node_config(tmp_path, listen="0.0.0.0:0"), stop=asyncio.Event(), ready=lambda _: None
        )
