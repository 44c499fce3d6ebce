"""ModelService: unpack, one call, pack."""

from __future__ import annotations

from collections.abc import AsyncIterator

from control_plane.db.pool import Database
from control_plane.models import commands, store
from control_plane.ports import Blobs
from services.convert.models import model_message
from services.file_chunks import file_chunks
from services.rpc.calls import Context
from services.rpc.masks import paths_of
from services.rpc.paging import cursor
from tunesmith.v1 import model_pb2, model_pb2_grpc

CHANGEABLE = ("labels",)


class ModelService(model_pb2_grpc.ModelServiceServicer):
    """What successful runs of tiny_lm leave. What each RPC promises stands in model.proto."""

    def __init__(self, db: Database, blobs: Blobs) -> None:
        self._db = db
        self._blobs = blobs

    async def GetModel(self, request: model_pb2.GetModelRequest, context: Context) -> model_pb2.GetModelResponse:
        """Read one."""
        async with self._db.connection() as conn:
            model = await store.get(conn, request.model_id)
        return model_pb2.GetModelResponse(model=model_message(model))

    async def ListModels(self, request: model_pb2.ListModelsRequest, context: Context) -> model_pb2.ListModelsResponse:
        """Read a page, newest first."""
        page = cursor(request)
        async with self._db.connection() as conn:
            found = await store.page(
                conn,
                experiment_id=request.experiment_id,
                name=request.name,
                id_prefix=request.id_prefix,
                after=page.after,
                limit=page.limit,
            )
        shown, token = page.cut(found, model_message, lambda model: model.model_id)
        return model_pb2.ListModelsResponse(models=shown, next_page_token=token)

    async def UpdateModel(
        self, request: model_pb2.UpdateModelRequest, context: Context
    ) -> model_pb2.UpdateModelResponse:
        """Change its labels."""
        paths_of(request.update_mask, changeable=CHANGEABLE)
        given = request.model
        model = await commands.update_labels(
            self._db, model_id=given.model_id, etag=given.etag, labels=dict(given.labels)
        )
        return model_pb2.UpdateModelResponse(model=model_message(model))

    async def GetModelReport(
        self, request: model_pb2.GetModelReportRequest, context: Context
    ) -> model_pb2.GetModelReportResponse:
        """Read the report of the run that made it."""
        async with self._db.connection() as conn:
            found = await store.report(conn, request.model_id)
        return model_pb2.GetModelReportResponse(report=found.report, markdown=found.markdown)

    async def DownloadModel(
        self, request: model_pb2.DownloadModelRequest, context: Context
    ) -> AsyncIterator[model_pb2.DownloadModelResponse]:
        """Read its files from a point on."""
        async with self._db.connection() as conn:
            model = await store.get(conn, request.model_id)
        chunks = file_chunks(self._blobs, model.files, owner=model.model_id, path=request.path, offset=request.offset)
        async for chunk in chunks:
            yield model_pb2.DownloadModelResponse(file=chunk.file, offset=chunk.offset, data=chunk.data)
