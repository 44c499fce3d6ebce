"""Reading the files of an adapter one after the other, from any point of any of them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence

from control_plane.errors import OffsetOutOfRange
from control_plane.ports import Blobs
from tunesmith.errors import FieldProblem, InvalidField
from tunesmith.v1 import adapter_pb2, blob_pb2


async def adapter_chunks(
    blobs: Blobs, files: Sequence[blob_pb2.File], *, path: str, offset: int
) -> AsyncIterator[adapter_pb2.DownloadAdapterResponse]:
    """The chunks of `files` in order of their paths, from `offset` of `path` on; an empty path is the first file.

    Raises InvalidField for a path that is none of the files', OffsetOutOfRange.
    """
    for file in _from(sorted(files, key=lambda file: file.path), path):
        if offset > file.size_bytes:
            what = f"{file.path} has {file.size_bytes} bytes; start within them"
            raise OffsetOutOfRange(what, path=file.path, size_bytes=file.size_bytes)
        if not file.size_bytes:
            yield adapter_pb2.DownloadAdapterResponse(file=file)
        elif offset < file.size_bytes:
            async for data in blobs.read(file.digest, offset):
                yield adapter_pb2.DownloadAdapterResponse(file=file, offset=offset, data=data)
                offset += len(data)
        offset = 0


def _from(files: Sequence[blob_pb2.File], path: str) -> Sequence[blob_pb2.File]:
    paths = [file.path for file in files]
    if not path:
        return files
    if path not in paths:
        raise InvalidField.of([FieldProblem("path", f"{path!r} is no file of this adapter; it has {', '.join(paths)}")])
    return files[paths.index(path) :]
