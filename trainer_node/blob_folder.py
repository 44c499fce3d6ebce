"""A folder of blobs: files named by the SHA-256 of their bytes, `ab/abcdef…`, each whole or absent.

A blob is written beside, hashed on its way, fsynced, and only then linked to its name: a name never shows other bytes
than its own. The same bytes are kept once; who comes second finds the name taken and is content.
"""

from __future__ import annotations

import errno
import hashlib
import os
import re
import shutil
import tempfile
import time
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from types import TracebackType

from trainer_node.durable import fsync_folder
from trainer_node.errors import BlobCorrupt, BlobNotFound, DiskFull
from tunesmith.v1 import blob_pb2

CHUNK_BYTES = 1 << 20
_DIGEST = re.compile(r"^[0-9a-f]{64}$")
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class BlobFolder:
    """Blobs below `root`. Any number of processes may use the same folder."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._incoming = root / "incoming"

    def path(self, digest: str) -> Path:
        """Where a blob lies or would lie. Raises ValueError for anything but 64 hexadecimal digits."""
        if not _DIGEST.match(digest):
            raise ValueError(f"{digest[:80]!r} is not a SHA-256 in lower-case hexadecimal digits")
        return self.root / digest[:2] / digest

    def size(self, digest: str) -> int | None:
        """Length of a blob in bytes; None where it is not stored."""
        try:
            return self.path(digest).stat().st_size
        except FileNotFoundError:
            return None

    def missing(self, digests: Iterable[str]) -> list[str]:
        """Those of `digests` that are not stored, in order, each once."""
        return [digest for digest in dict.fromkeys(digests) if self.size(digest) is None]

    def existing(self, digest: str) -> Path:
        """Where a stored blob lies. Raises BlobNotFound."""
        path = self.path(digest)
        if not path.is_file():
            raise BlobNotFound(f"blob {digest} is not stored here; upload it with UploadBlob", digest=digest)
        return path

    def keep(self, path: Path, name: str) -> blob_pb2.File:
        """Store a file as it is now (by hard link where possible) and describe it under `name`."""
        digest = file_digest(path)
        self.adopt(path, digest)
        return blob_pb2.File(path=name, digest=digest, size_bytes=path.stat().st_size)

    def adopt(self, path: Path, digest: str) -> None:
        """Give a file, known to have `digest` and never to be written to again, its name here too."""
        target = self.path(digest)
        if target.exists():
            return
        target.parent.mkdir(parents=True, exist_ok=True)
        with FullDiskNamed(self.root):
            try:
                _fsync(path)
                os.link(path, target)
            except FileExistsError:
                return
            except OSError as error:
                if error.errno in _FULL:
                    raise
                # another file system, or one without hard links
                with self.receive(digest) as incoming, path.open("rb") as file:
                    while chunk := file.read(CHUNK_BYTES):
                        incoming.write(chunk)
                    incoming.commit()
                return
            fsync_folder(target.parent)

    def put_bytes(self, data: bytes) -> str:
        """Store some bytes; returns their digest."""
        digest = hashlib.sha256(data).hexdigest()
        if self.size(digest) is None:
            with self.receive(digest) as incoming:
                incoming.write(data)
                incoming.commit()
        return digest

    def discard(self, digest: str) -> None:
        """Remove a blob that proved damaged, so that it can be stored anew."""
        self.path(digest).unlink(missing_ok=True)

    def used(self, digest: str) -> None:
        """Count a blob as needed now; see `evict`."""
        os.utime(self.existing(digest))

    def evict(self, unused_s: float) -> int:
        """Remove what was neither stored nor used for so long, remnants of a crash included. Returns the bytes named.

        Disk space is free when the last name of a file goes: that of a checkpoint that is still kept stays.
        """
        freed, oldest = 0, time.time() - unused_s
        for path in self.root.glob("*/*"):
            with suppress(FileNotFoundError):
                facts = path.stat()
                if facts.st_mtime < oldest:
                    path.unlink()
                    freed += facts.st_size
        return freed

    def receive(self, digest: str) -> IncomingBlob:
        """Begin to store a blob that arrives in pieces."""
        self.path(digest)
        with FullDiskNamed(self.root):
            self._incoming.mkdir(parents=True, exist_ok=True)
            return IncomingBlob(self, digest, self._incoming)


class IncomingBlob:
    """A blob on its way in: write the pieces, then commit. Left without a commit, nothing stays of it."""

    def __init__(self, folder: BlobFolder, digest: str, incoming: Path) -> None:
        self._folder, self._digest = folder, digest
        handle, name = tempfile.mkstemp(dir=incoming, prefix=f"{digest[:8]}.")
        self._file, self._path = os.fdopen(handle, "wb"), Path(name)
        self._sha256 = hashlib.sha256()
        self.received_bytes = 0

    def write(self, data: bytes) -> None:
        """Take the next piece. Raises DiskFull."""
        with FullDiskNamed(self._folder.root):
            self._file.write(data)
        self._sha256.update(data)
        self.received_bytes += len(data)

    def commit(self) -> None:
        """Store the blob durably. Raises BlobCorrupt if the bytes have another digest."""
        if self._sha256.hexdigest() != self._digest:
            what = f"the {self.received_bytes} bytes received are not blob {self._digest}; send it again"
            raise BlobCorrupt(what, digest=self._digest)
        with FullDiskNamed(self._folder.root):
            self._file.flush()
            os.fsync(self._file.fileno())
        self._folder.adopt(self._path, self._digest)

    def __enter__(self) -> IncomingBlob:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self._file.close()
        except OSError:
            if error is None:
                raise
        finally:
            self._path.unlink(missing_ok=True)


class FullDiskNamed:
    """Turns the system's "no space left" into a DiskFull that says where and how much is free."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def __enter__(self) -> None:
        return None

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if isinstance(error, OSError) and error.errno in _FULL:
            raise disk_full(self._folder) from error


def disk_full(folder: Path) -> DiskFull:
    """The error for a file system that has no room below `folder`."""
    try:
        free_mb = shutil.disk_usage(folder).free / 1e6
    except OSError:
        free_mb = 0.0
    return DiskFull(f"no room under {folder}: {free_mb:,.0f} MB are free; free some space there")


def file_digest(path: Path) -> str:
    """SHA-256 of a file's bytes in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _fsync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
