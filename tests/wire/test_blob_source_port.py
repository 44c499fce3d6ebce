"""The port `BlobSource`: what a node's jobs rely on, of the control plane behind a socket and of the fake for it."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
import pytest_asyncio

from services.blob_service import BlobService
from services.blob_store import BlobStore
from services.node_registration import ControlPlaneLink, open_channel
from services.rpc.server import ServerOptions, build_server, serving
from tests.support.node_jobs import MemorySource
from trainer_node.errors import BlobNotFound
from trainer_node.inputs import BlobSource

LARGE = bytes(range(256)) * 12_000  # more than one chunk
PARTS = (b"", b"a", b"two clips", LARGE)


@dataclass
class Supply:
    """A source, and the control plane behind it. leave: it goes away; come_back: it is there again."""

    source: BlobSource
    put: Callable[[bytes], Awaitable[str]]
    leave: Callable[[], Awaitable[None]]
    come_back: Callable[[], Awaitable[None]]


@asynccontextmanager
async def real_supply(folder: Path) -> AsyncIterator[Supply]:
    store = BlobStore(str(folder))
    tried = asyncio.Event()

    async def soon(_: float) -> None:
        tried.set()
        await asyncio.sleep(0.005)

    async with AsyncExitStack() as end:
        running = AsyncExitStack()
        end.push_async_callback(running.aclose)

        async def start(listen: str) -> str:
            server = build_server([BlobService(store)], listen=listen, options=ServerOptions(grace_s=0.1))
            return await running.enter_async_context(serving(server))

        async def come_back() -> None:
            await asyncio.wait_for(tried.wait(), 10)
            await start(address)

        address = await start("127.0.0.1:0")
        channel = await end.enter_async_context(open_channel(address))
        yield Supply(ControlPlaneLink(channel, sleep=soon), store.put_bytes, running.aclose, come_back)


@asynccontextmanager
async def fake_supply() -> AsyncIterator[Supply]:
    source = MemorySource()

    async def put(data: bytes) -> str:
        return source.add(data)

    async def leave() -> None:
        source.open.clear()

    async def come_back() -> None:
        source.open.set()

    yield Supply(source, put, leave, come_back)


@pytest_asyncio.fixture(params=["real", "fake"])
async def supply(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Supply]:
    async with real_supply(tmp_path) if request.param == "real" else fake_supply() as supply:
        yield supply


async def chunks(source: BlobSource, digest: str) -> list[bytes]:
    async with asyncio.timeout(20):
        return [chunk async for chunk in source.fetch(digest)]


async def test_a_blob_comes_whole_and_in_order_and_no_chunk_is_empty(supply: Supply):
    for data in PARTS:
        found = await chunks(supply.source, await supply.put(data))

        assert b"".join(found) == data
        assert all(found)


async def test_a_blob_that_is_not_there_is_not_found(supply: Supply):
    with pytest.raises(BlobNotFound):
        await chunks(supply.source, "1" * 64)


async def test_what_was_not_there_can_be_fetched_once_it_is(supply: Supply):
    with pytest.raises(BlobNotFound):
        await chunks(supply.source, hashlib.sha256(b"late").hexdigest())

    assert b"".join(await chunks(supply.source, await supply.put(b"late"))) == b"late"


async def test_several_blobs_are_fetched_at_the_same_time(supply: Supply):
    digests = [await supply.put(data) for data in PARTS]

    found = await asyncio.gather(*(chunks(supply.source, digest) for digest in digests))

    assert [b"".join(one) for one in found] == list(PARTS)


async def test_a_fetch_outlives_an_outage(supply: Supply):
    digest = await supply.put(LARGE)
    await supply.leave()

    fetching = asyncio.create_task(chunks(supply.source, digest))
    await supply.come_back()

    assert b"".join(await fetching) == LARGE


async def test_a_fetch_that_is_given_up_harms_no_other(supply: Supply):
    digest = await supply.put(LARGE)
    given_up = supply.source.fetch(digest)
    first = await anext(given_up)
    await given_up.aclose()

    assert LARGE.startswith(first)
    assert b"".join(await chunks(supply.source, digest)) == LARGE
