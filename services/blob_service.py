"""BlobService, served by the control plane to clients and nodes, and by a node to the control plane."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from control_plane.errors import BlobNotFound, OffsetOutOfRange, UploadOffset
from services.blob_store import BlobStore
from services.blob_uploads import BlobUploads
from services.rpc.calls import Context
from tunesmith.v1 import blob_pb2, blob_pb2_grpc


class BlobService(blob_pb2_grpc.BlobServiceServicer):
    """Bytes by digest. What each RPC promises stands in blob.proto."""

    def __init__(self, blobs: BlobStore) -> None:
        self._blobs = blobs
        self._uploads = BlobUploads(blobs.folder.root / "uploads")

    async def FindMissingBlobs(
        self, request: blob_pb2.FindMissingBlobsRequest, context: Context
    ) -> blob_pb2.FindMissingBlobsResponse:
        """Which are not stored."""
        missing = await self._blobs.missing(list(request.digests))
        return blob_pb2.FindMissingBlobsResponse(missing_digests=missing)

    async def GetUpload(self, request: blob_pb2.GetUploadRequest, context: Context) -> blob_pb2.GetUploadResponse:
        """Where an upload goes on."""
        size = await self._blobs.size(request.digest)
        if size is not None:
            return blob_pb2.GetUploadResponse(offset=size, complete=True)
        return blob_pb2.GetUploadResponse(offset=self._uploads.received_bytes(request.digest))

    async def UploadBlob(
        self, request: AsyncIterator[blob_pb2.UploadBlobRequest], context: Context
    ) -> blob_pb2.UploadBlobResponse:
        """Store one."""
        first = await anext(request, None)
        if first is None or not first.digest:
            raise UploadOffset("the first message must name the digest and carry its offset; send it again", offset=0)
        stored = await self._blobs.size(first.digest)
        if stored is None:
            await self._receive(first, request)
            stored = first.size_bytes
        return blob_pb2.UploadBlobResponse(digest=first.digest, size_bytes=stored)

    async def DownloadBlob(
        self, request: blob_pb2.DownloadBlobRequest, context: Context
    ) -> AsyncIterator[blob_pb2.DownloadBlobResponse]:
        """Read one from an offset on; a read at its very end tells its size."""
        offset, size = request.offset, await self._blobs.size(request.digest)
        if size is None:
            raise BlobNotFound(f"blob {request.digest} is not stored here; upload it with UploadBlob")
        if offset > size:
            raise OffsetOutOfRange(f"the blob has {size} bytes; read from 0 to {size}", size_bytes=size)
        if offset == size:
            yield blob_pb2.DownloadBlobResponse(offset=offset, size_bytes=size)
        async for data in self._blobs.read(request.digest, offset):
            yield blob_pb2.DownloadBlobResponse(offset=offset, data=data, size_bytes=size)
            offset += len(data)

    async def _receive(
        self, first: blob_pb2.UploadBlobRequest, rest: AsyncIterator[blob_pb2.UploadBlobRequest]
    ) -> None:
        with self._uploads.resume(first.digest, size=first.size_bytes, offset=first.offset) as partial:
            await asyncio.to_thread(partial.begin)
            await asyncio.to_thread(partial.write, first.offset, first.data)
            async for message in rest:
                await asyncio.to_thread(partial.write, message.offset, message.data)
            await asyncio.to_thread(partial.complete)
            await self._blobs.put_file(partial.path, first.digest)
            partial.drop()
