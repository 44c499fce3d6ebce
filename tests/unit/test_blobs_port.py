"""The port `Blobs`: what the registry relies on, of the real store and of the fake that stands for it in tests."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from control_plane.errors import BlobCorrupt, BlobNotFound, OffsetOutOfRange
from control_plane.ports import Blobs
from services.blob_store import BlobStore
from tests.support.fakes import InMemoryBlobs

ABSENT = "0" * 64


@pytest.fixture(params=["folder", "object store", "fake"])
def blobs(request: pytest.FixtureRequest, tmp_path: Path) -> Blobs:
    if request.param == "fake":
        return InMemoryBlobs()
    return BlobStore(str(tmp_path) if request.param == "folder" else "memory:///", staging_dir=tmp_path)


async def chunks(*parts: bytes) -> AsyncIterator[bytes]:
    for part in parts:
        yield part


async def test_bytes_come_back_by_their_digest(blobs: Blobs):
    digest = await blobs.put_bytes(b"abc")

    assert digest == hashlib.sha256(b"abc").hexdigest()
    assert await blobs.get_bytes(digest, 3) == b"abc"
    assert b"".join([chunk async for chunk in blobs.read(digest, 1)]) == b"bc"
    assert [chunk async for chunk in blobs.read(digest, 3)] == []
    assert (await blobs.size(digest), await blobs.size(ABSENT)) == (3, None)


async def test_what_is_missing_is_told_once_in_the_order_asked(blobs: Blobs):
    digest = await blobs.put_bytes(b"abc")

    assert await blobs.missing(["1" * 64, ABSENT, digest, "1" * 64]) == ["1" * 64, ABSENT]
    assert await blobs.missing([]) == []


async def test_what_is_stored_again_is_left_as_it_is(blobs: Blobs):
    digest = await blobs.put_bytes(b"abc")

    await blobs.put(digest, chunks(b"ab", b"c"), 3)

    assert await blobs.put_bytes(b"abc") == digest
    assert await blobs.get_bytes(digest, 3) == b"abc"


async def test_bytes_that_do_not_have_the_digest_or_the_length_are_refused(blobs: Blobs):
    digest = hashlib.sha256(b"abc").hexdigest()

    for parts, size in (([b"abd"], 3), ([b"ab"], 3), ([b"abc"], 4), ([b"abc", b"d"], 3)):
        with pytest.raises(BlobCorrupt):
            await blobs.put(digest, chunks(*parts), size)

    assert await blobs.size(digest) is None
    await blobs.put(digest, chunks(b"a", b"", b"bc"), 3)
    assert await blobs.get_bytes(digest, 3) == b"abc"


async def test_what_is_not_there_is_not_found(blobs: Blobs):
    with pytest.raises(BlobNotFound):
        await blobs.get_bytes(ABSENT, 10)
    with pytest.raises(BlobNotFound):
        _ = [chunk async for chunk in blobs.read(ABSENT)]


async def test_reading_past_the_end_or_the_limit_is_refused(blobs: Blobs):
    digest = await blobs.put_bytes(b"abc")

    with pytest.raises(OffsetOutOfRange):
        _ = [chunk async for chunk in blobs.read(digest, 4)]
    with pytest.raises(BlobCorrupt):
        await blobs.get_bytes(digest, 2)


async def test_a_blob_is_read_in_chunks_of_at_most_a_mebibyte(blobs: Blobs):
    data = bytes(range(256)) * 10_000
    digest = await blobs.put_bytes(data)

    parts = [chunk async for chunk in blobs.read(digest)]

    assert b"".join(parts) == data
    assert max(len(part) for part in parts) <= 1 << 20


async def test_an_empty_blob_is_a_blob(blobs: Blobs):
    digest = await blobs.put_bytes(b"")

    assert (await blobs.size(digest), await blobs.get_bytes(digest, 0)) == (0, b"")
