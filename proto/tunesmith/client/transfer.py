"""Bytes in and out: uploads and downloads that go on where they stopped, checked by SHA-256.

A download is written beside its target and renamed when its digest is right, so a file that exists is whole. What a
killed download left is found again by its name and continued.
"""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import takewhile
from pathlib import Path, PurePosixPath
from typing import Protocol, TypeVar

from tunesmith.client.client import Client
from tunesmith.client.errors import ApiError, DownloadCorrupt
from tunesmith.v1 import adapter_pb2, blob_pb2, model_pb2

CHUNK_BYTES = 512 * 1024
FIND_BATCH = 1_000  # digests in one FindMissingBlobs
GIVE_UP_S = 60.0  # without a single byte of progress

T = TypeVar("T")
OnFile = Callable[[blob_pb2.File], None]
"""Told of each file before it is read."""


class _Chunk(Protocol):
    @property
    def offset(self) -> int: ...
    @property
    def data(self) -> bytes: ...


class _FileChunk(_Chunk, Protocol):
    @property
    def file(self) -> blob_pb2.File: ...


class _Files(Protocol):
    """A stream of the files from one of them on."""

    def __iter__(self) -> Iterator[_FileChunk]: ...
    def cancel(self) -> object: ...


def digest_of(path: Path) -> str:
    """SHA-256 of a file, 64 hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def find_missing(client: Client, digests: Iterable[str]) -> list[str]:
    """Those of the digests that the control plane does not have, in the order asked, each once."""
    wanted = list(dict.fromkeys(digests))
    missing: list[str] = []
    for start in range(0, len(wanted), FIND_BATCH):
        request = blob_pb2.FindMissingBlobsRequest(digests=wanted[start : start + FIND_BATCH])
        missing += client.blobs.FindMissingBlobs(request).missing_digests
    return missing


def upload_missing(
    client: Client, files: Mapping[str, Path], *, on_file: Callable[[str, int, int], None] | None = None
) -> int:
    """Upload those of `files`, by digest, that are missing there; on_file(digest, done, all). Returns how many."""
    missing = find_missing(client, files)
    for done, digest in enumerate(missing):
        if on_file:
            on_file(digest, done, len(missing))
        upload_blob(client, files[digest], digest=digest)
    return len(missing)


def upload_blob(client: Client, path: Path, *, digest: str = "") -> blob_pb2.UploadBlobResponse:
    """Store a file as a blob; one that is stored already is not sent again, one that was cut goes on.

    The digest is computed where it is not given. Raises ApiError BLOB_CORRUPT where the file is not what it says: it
    was changed meanwhile.
    """
    digest = digest or digest_of(path)
    size = path.stat().st_size
    progress = _Progress()

    def attempt() -> blob_pb2.UploadBlobResponse:
        state = client.blobs.GetUpload(blob_pb2.GetUploadRequest(digest=digest))
        progress.at = state.offset
        if state.complete:
            return blob_pb2.UploadBlobResponse(digest=digest, size_bytes=size)
        return client.blobs.UploadBlob(_upload_messages(path, digest, size, state.offset))

    try:
        return _persist(attempt, progress)
    except ApiError as error:
        if error.reason != "BLOB_CORRUPT":
            raise
        what = f"{path} changed while it was sent; do it again, and leave the file alone until it is done"
        raise ApiError(error.reason, error.code, what, metadata=error.metadata) from error


def _upload_messages(path: Path, digest: str, size: int, offset: int) -> Iterator[blob_pb2.UploadBlobRequest]:
    with path.open("rb") as file:
        file.seek(offset)
        data = file.read(CHUNK_BYTES)
        yield blob_pb2.UploadBlobRequest(digest=digest, size_bytes=size, offset=offset, data=data)
        while data:
            offset += len(data)
            data = file.read(CHUNK_BYTES)
            if data:
                yield blob_pb2.UploadBlobRequest(offset=offset, data=data)


def download_blob(client: Client, digest: str, target: Path) -> Path:
    """Read a blob into `target`, whose folder is made. A whole file that is there already is left as it is."""

    def begin(offset: int) -> Iterator[blob_pb2.DownloadBlobResponse]:
        return client.blobs.DownloadBlob(blob_pb2.DownloadBlobRequest(digest=digest, offset=offset))

    return _fetch(target, digest, begin)


def pull_adapter(
    client: Client, adapter: adapter_pb2.Adapter, folder: Path, *, on_file: OnFile | None = None
) -> list[Path]:
    """Read an adapter's PEFT folder into `folder`, which is made; files that are there whole are not read again."""

    def chunks(path: str, offset: int) -> _Files:
        request = adapter_pb2.DownloadAdapterRequest(adapter_id=adapter.adapter_id, path=path, offset=offset)
        return client.adapters.DownloadAdapter(request)

    return _pull(adapter.files, folder, chunks, what="adapter", on_file=on_file)


def pull_model(client: Client, model: model_pb2.Model, folder: Path, *, on_file: OnFile | None = None) -> list[Path]:
    """Read a language model with its tokenizer into `folder`, which is made; files that are there whole are not read
    again."""

    def chunks(path: str, offset: int) -> _Files:
        request = model_pb2.DownloadModelRequest(model_id=model.model_id, path=path, offset=offset)
        return client.models.DownloadModel(request)

    return _pull(model.files, folder, chunks, what="model", on_file=on_file)


def _pull(
    files: Iterable[blob_pb2.File],
    folder: Path,
    chunks: Callable[[str, int], _Files],
    *,
    what: str,
    on_file: OnFile | None,
) -> list[Path]:
    """Read files, each below `folder`. chunks(path, offset): the stream from there on; what: for messages."""
    pulled = []
    for file in files:
        path = PurePosixPath(file.path)
        if path.is_absolute() or ".." in path.parts:
            raise ApiError("UNSAFE_PATH", "DATA_LOSS", f"the {what} names a file outside its folder: {file.path!r}")
        if on_file:
            on_file(file)
        pulled.append(_fetch(folder / path, file.digest, _one_file(chunks, file.path)))
    return pulled


def _one_file(chunks: Callable[[str, int], _Files], path: str) -> Callable[[int], Iterator[_Chunk]]:
    """Opens the chunks of one file; the server would go on with the next, so reading stops there."""

    def begin(offset: int) -> Iterator[_Chunk]:
        call = chunks(path, offset)
        try:
            yield from takewhile(lambda chunk: chunk.file.path == path, call)
        finally:
            call.cancel()

    return begin


def _fetch(target: Path, digest: str, begin: Callable[[int], Iterator[_Chunk]]) -> Path:
    """Write the chunks that `begin(offset)` gives to `target`, whole or not at all."""
    if target.is_file() and digest_of(target) == digest:
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(f".{target.name}.{digest[:16]}.part")
    for _ in range(2):
        if not (part.exists() and digest_of(part) == digest):
            progress = _Progress()
            _persist(lambda: _append(part, begin, progress), progress)  # noqa: B023  # called at once
        if digest_of(part) == digest:
            os.replace(part, target)
            return target
        part.unlink()
    raise DownloadCorrupt(target.name, digest)


def _append(part: Path, begin: Callable[[int], Iterator[_Chunk]], progress: _Progress) -> int:
    """Go on with a part behind its last byte. Returns its length."""
    with part.open("ab") as file:
        progress.at = file.tell()
        for chunk in begin(progress.at):
            if chunk.offset != progress.at:
                break  # not what was asked for; the digest will tell
            file.write(chunk.data)
            progress.at += len(chunk.data)
        file.flush()
        os.fsync(file.fileno())
    return progress.at


class _Progress:
    """How far a transfer has come, in bytes."""

    def __init__(self) -> None:
        self.at = 0


def _persist(attempt: Callable[[], T], progress: _Progress) -> T:
    """Repeat `attempt` while the connection is to blame, until it succeeds or nothing has moved for a minute."""
    delay_s, best, moved_at = 0.2, -1, time.monotonic()
    while True:
        try:
            return attempt()
        except ApiError as error:
            if progress.at > best:
                delay_s, best, moved_at = 0.2, progress.at, time.monotonic()
            again = error.retryable or error.reason == "UPLOAD_OFFSET"
            if not again or time.monotonic() - moved_at > GIVE_UP_S:
                raise
            time.sleep(error.retry_after_s or delay_s)
            delay_s = min(delay_s * 2, 5.0)
