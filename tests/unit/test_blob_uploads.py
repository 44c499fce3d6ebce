"""Uploads of the same blob at once: whatever they send, what is stored has its digest."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from control_plane.errors import UploadOffset
from services.blob_store import BlobStore
from services.blob_uploads import BlobUploads, PartialBlob

DATA = b"sound" * 200
DIGEST = hashlib.sha256(DATA).hexdigest()


@pytest.fixture
def store(tmp_path: Path) -> BlobStore:
    return BlobStore(str(tmp_path))


@pytest.fixture
def uploads(store: BlobStore) -> BlobUploads:
    return BlobUploads(store.folder.root / "uploads")


def begun(partial: PartialBlob, data: bytes) -> PartialBlob:
    partial.begin()
    partial.write(0, data)
    return partial


async def test_a_blob_that_is_being_stored_is_not_written_to_by_a_later_upload(
    store: BlobStore, uploads: BlobUploads
) -> None:
    with uploads.resume(DIGEST, size=len(DATA), offset=0) as first:
        begun(first, DATA).complete()
        with (
            pytest.raises(UploadOffset, match="ask GetUpload"),
            uploads.resume(DIGEST, size=len(DATA) + 10, offset=len(DATA)) as second,
        ):
            second.begin()
            await store.put_file(first.path, DIGEST)
            second.write(len(DATA), b"0123456789")
        await store.put_file(first.path, DIGEST)
        first.drop()

    assert store.folder.path(DIGEST).read_bytes() == DATA


async def test_an_upload_that_another_has_taken_over_stores_nothing(store: BlobStore, uploads: BlobUploads) -> None:
    with uploads.resume(DIGEST, size=len(DATA), offset=0) as first:
        begun(first, DATA)
        with uploads.resume(DIGEST, size=len(DATA), offset=len(DATA)) as second:
            with pytest.raises(UploadOffset, match="ask GetUpload"):
                first.complete()

            second.begin()
            second.complete()
            await store.put_file(second.path, DIGEST)
            second.drop()

    assert store.folder.path(DIGEST).read_bytes() == DATA
    assert uploads.received_bytes(DIGEST) == 0
