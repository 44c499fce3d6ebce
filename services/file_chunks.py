"""Reading the files of an adapter or a model one after the other, from any point of any of them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import NamedTuple

from control_plane.errors import OffsetOutOfRange
from control_plane.ports import Blobs
from tunesmith.errors import FieldProblem, InvalidField
from tunesmith.v1 import blob_pb2


class FileChunk(NamedTuple):
    """Bytes of a file. offset: of `data` in it; data: at most 1 MiB, empty only for an empty file."""

    file: blob_pb2.File
    offset: int
    data: bytes


async def file_chunks(
    blobs: Blobs, files: Sequence[blob_pb2.File], *, owner: str, path: str, offset: int
) -> AsyncIterator[FileChunk]:
    """The chunks of `files` in order of their paths, from `offset` of `path` on; an empty path is the first file.

    owner: the id of what the files belong to, for messages. Raises InvalidField for a path that is none of the files',
    OffsetOutOfRange.
    """
    for file in _from(sorted(files, key=lambda file: file.path), path, owner):
        if offset > file.size_bytes:
            what = f"{file.path} has {file.size_bytes} bytes; start within them"
            raise OffsetOutOfRange(what, path=file.path, size_bytes=file.size_bytes)
        if not file.size_bytes:
            yield FileChunk(file, 0, b"")
        elif offset < file.size_bytes:
            async for data in blobs.read(file.digest, offset):
                yield FileChunk(file, offset, data)
                offset += len(data)
        offset = 0


def _from(files: Sequence[blob_pb2.File], path: str, owner: str) -> Sequence[blob_pb2.File]:
    paths = [file.path for file in files]
    if not path:
        return files
    if path not in paths:
        raise InvalidField.of([FieldProblem("path", f"{path!r} is no file of {owner}; it has {', '.join(paths)}")])
    return files[paths.index(path) :]
