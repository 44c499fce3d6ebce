"""The port Blobs: bytes by digest in a folder of this machine, or in S3, GCS or Azure through obstore.

What arrives is staged in a folder first, its digest checked on the way, and only a whole blob gets its name. In a
folder store the stage is the store. obstore's own folder store is not used: it does not fsync (seen with strace, 0.12),
and what this store has acknowledged has to survive a power cut.
"""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import obstore
from obstore.exceptions import BaseError, NotFoundError
from obstore.store import ObjectStore, from_url

from control_plane import errors
from trainer_node.blob_folder import CHUNK_BYTES, BlobFolder
from tunesmith.errors import TunesmithError


class BlobStoreAway(TunesmithError):
    """The object store does not answer, or refuses."""

    reason = "UNAVAILABLE"


class BlobStore:
    """Blobs at `location`: a folder, or a URL such as s3://bucket/prefix, gs://… or az://….

    staging_dir: where blobs for an object store are checked before they are sent there; by default a folder of this
    program in the system's temporary directory.
    """

    def __init__(self, location: str, *, staging_dir: Path | None = None) -> None:
        self._remote: ObjectStore | None = None
        if "://" in location:
            self._remote = from_url(location)
            self.folder = BlobFolder(staging_dir or Path(tempfile.gettempdir()) / "tunesmith-staging")
        else:
            self.folder = BlobFolder(Path(location).expanduser().absolute())
        self.folder.root.mkdir(parents=True, exist_ok=True)

    async def missing(self, digests: Sequence[str]) -> list[str]:
        """Those of `digests` that are not stored, in order, each once."""
        if self._remote is None:
            return await asyncio.to_thread(self.folder.missing, digests)
        wanted = list(dict.fromkeys(digests))
        sizes = await asyncio.gather(*(self.size(digest) for digest in wanted))
        return [digest for digest, size in zip(wanted, sizes, strict=True) if size is None]

    async def size(self, digest: str) -> int | None:
        """Length in bytes, or None where it is not stored."""
        if self._remote is None:
            return await asyncio.to_thread(self.folder.size, digest)
        with _named():
            try:
                return (await obstore.head_async(self._remote, self._key(digest)))["size"]
            except (NotFoundError, FileNotFoundError):
                return None

    async def put(self, digest: str, chunks: AsyncIterator[bytes], size: int) -> None:
        """Store `size` bytes, durable on return; what is stored is left as it is. Raises BlobCorrupt, DiskFull."""
        if await self.size(digest) is not None:
            return
        with _named():
            with self.folder.receive(digest) as incoming:
                async for chunk in chunks:
                    await asyncio.to_thread(incoming.write, chunk)
                    if incoming.received_bytes > size:
                        break
                if incoming.received_bytes != size:
                    found = "more" if incoming.received_bytes > size else str(incoming.received_bytes)
                    raise errors.BlobCorrupt(
                        f"blob {digest} has {found} bytes, not the {size} announced; send it again"
                    )
                await asyncio.to_thread(incoming.commit)
            await self._send_on(digest)

    async def put_bytes(self, data: bytes) -> str:
        """Store `data`, durable on return, and return its digest."""
        with _named():
            digest = await asyncio.to_thread(self.folder.put_bytes, data)
            await self._send_on(digest)
        return digest

    async def put_file(self, path: Path, digest: str) -> None:
        """Store a file known to have `digest`, which is never written to again; by hard link where possible."""
        with _named():
            await asyncio.to_thread(self.folder.adopt, path, digest)
            await self._send_on(digest)

    async def get_bytes(self, digest: str, limit: int) -> bytes:
        """A whole blob. Raises BlobNotFound, and BlobCorrupt where it is longer than `limit` bytes."""
        size = await self._size_of(digest)
        if size > limit:
            raise errors.BlobCorrupt(f"blob {digest} has {size} bytes, more than the {limit} expected of its kind")
        return b"".join([chunk async for chunk in self.read(digest)])

    async def read(self, digest: str, offset: int = 0) -> AsyncIterator[bytes]:
        """The bytes from `offset` on, in chunks of at most 1 MiB. Raises BlobNotFound, OffsetOutOfRange."""
        size = await self._size_of(digest)
        if offset > size:
            what = f"blob {digest} has {size} bytes, so there is nothing at offset {offset}"
            raise errors.OffsetOutOfRange(f"{what}; read from 0 to {size}", size_bytes=size)
        while offset < size:
            chunk = await self._chunk(digest, offset, min(CHUNK_BYTES, size - offset))
            if not chunk:
                raise errors.BlobCorrupt(f"blob {digest} ends at {offset} of {size} bytes; restore it from a backup")
            yield chunk
            offset += len(chunk)

    def local_path(self, digest: str) -> Path | None:
        """The file that holds a blob, or None where it is not stored or not stored as a file of this machine."""
        if self._remote is not None or self.folder.size(digest) is None:
            return None
        return self.folder.path(digest)

    async def _size_of(self, digest: str) -> int:
        size = await self.size(digest)
        if size is None:
            what = f"blob {digest} is not stored here; upload it with UploadBlob"
            raise errors.BlobNotFound(what, digest=digest)
        return size

    async def _chunk(self, digest: str, offset: int, length: int) -> bytes:
        if self._remote is None:
            return await asyncio.to_thread(_pread, self.folder.path(digest), offset, length)
        with _named():
            found = await obstore.get_range_async(self._remote, self._key(digest), start=offset, length=length)
        return found.to_bytes()

    async def _send_on(self, digest: str) -> None:
        """From the stage to the object store. Two senders send the same bytes, so it does not matter who is last."""
        if self._remote is None:
            return
        await obstore.put_async(self._remote, self._key(digest), self.folder.path(digest))
        await asyncio.to_thread(self.folder.discard, digest)

    def _key(self, digest: str) -> str:
        return self.folder.path(digest).relative_to(self.folder.root).as_posix()


_PORT_ERRORS: dict[str, type[TunesmithError]] = {
    kind.reason: kind for kind in (errors.BlobNotFound, errors.BlobCorrupt, errors.DiskFull, errors.OffsetOutOfRange)
}


@contextmanager
def _named() -> Iterator[None]:
    """Errors of the folder and of the object store as those that the port promises."""
    try:
        yield
    except BaseError as error:
        raise BlobStoreAway(f"the object store failed ({type(error).__name__}); try again in a moment") from error
    except TunesmithError as error:
        kind = _PORT_ERRORS.get(error.reason)
        if kind is None or isinstance(error, kind):
            raise
        named = kind(error.message)
        named.metadata = error.metadata
        raise named from error


def _pread(path: Path, offset: int, length: int) -> bytes:
    with path.open("rb") as file:
        file.seek(offset)
        return file.read(length)
