"""Uploads that are under way or were interrupted: one partial file a digest, so that they go on where they stopped.

Partial files are bounded in number, and those that nobody touched for a day are removed.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType

from control_plane.errors import BlobCorrupt, DiskFull, UploadOffset
from trainer_node.blob_folder import CHUNK_BYTES, FullDiskNamed

MAX_PARTIALS = 1000
KEEP_PARTIAL_S = 86_400.0
MIN_FREE_BYTES = 500_000_000  # left to everything else on the disk


class BlobUploads:
    """The partial files in `folder`."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._open: dict[str, PartialBlob] = {}

    def received_bytes(self, digest: str) -> int:
        """How much of an interrupted upload is here; 0 for none."""
        try:
            return self._partial(digest).stat().st_size
        except FileNotFoundError:
            return 0

    @contextmanager
    def resume(self, digest: str, *, size: int, offset: int) -> Iterator[PartialBlob]:
        """Go on with an upload at `offset`, or begin again at 0. Left by an exception, what arrived is kept.

        Raises UploadOffset where something else than `offset` bytes are here, DiskFull where `size` will not fit.
        """
        self._tidy()
        with FullDiskNamed(self._folder):
            self._require_room(size - offset)
        path, other = self._partial(digest), self._open.get(digest)
        if other is not None and offset > 0:
            if not other.displace():
                raise UploadOffset("this blob has arrived and is being stored; ask GetUpload", offset=offset)
            # its sender lost the connection, came back, and is faster than our noticing
            other = None
        if other is not None:
            # the same bytes by two ways at once: this one works in a file of its own, from the beginning
            path = path.with_name(f"{digest}.{time.monotonic_ns()}")
        received = path.stat().st_size if path.exists() else 0
        if offset not in (0, received):
            what = f"{received} bytes of blob {digest} have arrived, so offset {offset} is not where it goes on"
            raise UploadOffset(f"{what}; go on from offset {received}", offset=received)
        with PartialBlob(path, digest, size=size, offset=offset) as partial:
            if other is None:
                self._open[digest] = partial
            try:
                yield partial
            finally:
                if self._open.get(digest) is partial:
                    del self._open[digest]
                if other is not None:
                    partial.drop()

    def _partial(self, digest: str) -> Path:
        if len(digest) != 64 or not digest.isalnum():
            raise ValueError("not a digest")
        return self._folder / digest

    def _require_room(self, needed_bytes: int) -> None:
        free = shutil.disk_usage(self._folder).free - MIN_FREE_BYTES
        if needed_bytes > free:
            what = f"the blob needs {needed_bytes / 1e6:,.0f} MB and {max(0, free) / 1e6:,.0f} MB are free"
            raise DiskFull(f"{what}; free {(needed_bytes - free) / 1e6:,.0f} MB in the blob folder of the server")

    def _tidy(self) -> None:
        """Remove partial files that are too old, and the oldest where there are too many."""
        self._folder.mkdir(parents=True, exist_ok=True)
        idle = [path for path in self._folder.iterdir() if path.name.partition(".")[0] not in self._open]
        idle.sort(key=lambda path: path.stat().st_mtime, reverse=True)
        for place, path in enumerate(idle):
            if place >= MAX_PARTIALS or time.time() - path.stat().st_mtime > KEEP_PARTIAL_S:
                path.unlink(missing_ok=True)


class PartialBlob:
    """A blob that is arriving: data is appended, hashed on its way, and checked at the end."""

    def __init__(self, path: Path, digest: str, *, size: int, offset: int) -> None:
        self.path = path
        self._digest, self._size = digest, size
        self._offset = offset
        self._sha256 = hashlib.sha256()
        self._writing = threading.Lock()
        self._displaced = self._whole = False
        with FullDiskNamed(path.parent):
            self._file = path.open("r+b" if path.exists() else "w+b")

    def displace(self) -> bool:
        """Write nothing more: another upload goes on with this file. False where it is whole: it gets its name now, and
        whoever wrote to it then would write to what is stored."""
        with self._writing:
            self._displaced = not self._whole
            return self._displaced

    def begin(self) -> None:
        """Take up what is here already: it has to be read once, for its digest."""
        self._file.truncate(self._offset)
        while chunk := self._file.read(CHUNK_BYTES):
            self._sha256.update(chunk)

    def __enter__(self) -> PartialBlob:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    def write(self, offset: int, data: bytes) -> None:
        """Append `data`, which belongs at `offset`. Raises UploadOffset, BlobCorrupt, DiskFull."""
        if offset != self._offset:
            what = f"data for offset {offset} came where offset {self._offset} was due"
            raise UploadOffset(f"{what}; go on from offset {self._offset}", offset=self._offset)
        if offset + len(data) > self._size:
            self.drop()
            what = f"more than the {self._size} bytes announced for blob {self._digest} came"
            raise BlobCorrupt(f"{what}; upload it again with its true size", digest=self._digest)
        with FullDiskNamed(self.path.parent), self._writing:
            self._require_mine()
            self._file.write(data)
            self._file.flush()
        self._sha256.update(data)
        self._offset += len(data)

    def complete(self) -> None:
        """Make the whole blob durable. Raises UploadOffset if it is not whole, BlobCorrupt if it is another one."""
        if self._offset < self._size:
            what = f"the upload ended after {self._offset} of {self._size} bytes"
            raise UploadOffset(f"{what}; go on from offset {self._offset}", offset=self._offset)
        if self._sha256.hexdigest() != self._digest:
            self.drop()
            what = f"the {self._size} bytes received are not blob {self._digest}; upload it again"
            raise BlobCorrupt(what, digest=self._digest)
        with self._writing:
            self._require_mine()
            self._whole = True
        with FullDiskNamed(self.path.parent):
            os.fsync(self._file.fileno())

    def _require_mine(self) -> None:
        if self._displaced:
            raise UploadOffset("another upload of this blob has gone on with it; ask GetUpload", offset=self._offset)

    def drop(self) -> None:
        """Forget what arrived, unless another upload goes on with it."""
        if not self._displaced:
            self.path.unlink(missing_ok=True)
