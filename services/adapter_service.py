"""AdapterService: unpack, one call, pack."""

from __future__ import annotations

from collections.abc import AsyncIterator

from control_plane.adapters import commands, evaluation_store, store
from control_plane.db.pool import Database
from control_plane.ports import Blobs
from services.convert.adapters import adapter_message, evaluation_message, new_evaluation
from services.evaluation_words import heard
from services.file_chunks import file_chunks
from services.rpc.calls import Context
from services.rpc.masks import paths_of
from services.rpc.paging import cursor
from services.rpc.requests import request_of
from tunesmith.v1 import adapter_pb2, adapter_pb2_grpc

CHANGEABLE = ("labels",)
REPORTED_EVALUATIONS = 20


class AdapterService(adapter_pb2_grpc.AdapterServiceServicer):
    """What successful runs leave. What each RPC promises stands in adapter.proto."""

    def __init__(self, db: Database, blobs: Blobs) -> None:
        self._db = db
        self._blobs = blobs

    async def GetAdapter(
        self, request: adapter_pb2.GetAdapterRequest, context: Context
    ) -> adapter_pb2.GetAdapterResponse:
        """Read one."""
        async with self._db.connection() as conn:
            adapter = await store.get(conn, request.adapter_id)
        return adapter_pb2.GetAdapterResponse(adapter=adapter_message(adapter))

    async def ListAdapters(
        self, request: adapter_pb2.ListAdaptersRequest, context: Context
    ) -> adapter_pb2.ListAdaptersResponse:
        """Read a page, newest first."""
        page = cursor(request)
        async with self._db.connection() as conn:
            found = await store.page(
                conn,
                experiment_id=request.experiment_id,
                name=request.name,
                id_prefix=request.id_prefix,
                start_adapter_id=request.start_adapter_id,
                after=page.after,
                limit=page.limit,
            )
        shown, token = page.cut(found, adapter_message, lambda adapter: adapter.adapter_id)
        return adapter_pb2.ListAdaptersResponse(adapters=shown, next_page_token=token)

    async def UpdateAdapter(
        self, request: adapter_pb2.UpdateAdapterRequest, context: Context
    ) -> adapter_pb2.UpdateAdapterResponse:
        """Change its labels."""
        paths_of(request.update_mask, changeable=CHANGEABLE)
        given = request.adapter
        adapter = await commands.update_labels(
            self._db, adapter_id=given.adapter_id, etag=given.etag, labels=dict(given.labels)
        )
        return adapter_pb2.UpdateAdapterResponse(adapter=adapter_message(adapter))

    async def GetAdapterReport(
        self, request: adapter_pb2.GetAdapterReportRequest, context: Context
    ) -> adapter_pb2.GetAdapterReportResponse:
        """Read the report of the run that made it, and what was measured of its clips since."""
        async with self._db.connection() as conn:
            found = await store.report(conn, request.adapter_id)
            newest = await evaluation_store.page(conn, adapter_id=request.adapter_id, limit=REPORTED_EVALUATIONS)
        evaluations = [evaluation_message(one) for one in newest]
        markdown = f"{found.markdown}\n{heard(evaluations)}\n" if evaluations else found.markdown
        return adapter_pb2.GetAdapterReportResponse(report=found.report, markdown=markdown, evaluations=evaluations)

    async def DownloadAdapter(
        self, request: adapter_pb2.DownloadAdapterRequest, context: Context
    ) -> AsyncIterator[adapter_pb2.DownloadAdapterResponse]:
        """Read its files from a point on."""
        async with self._db.connection() as conn:
            adapter = await store.get(conn, request.adapter_id)
        chunks = file_chunks(
            self._blobs, adapter.files, owner=adapter.adapter_id, path=request.path, offset=request.offset
        )
        async for chunk in chunks:
            yield adapter_pb2.DownloadAdapterResponse(file=chunk.file, offset=chunk.offset, data=chunk.data)

    async def CreateAdapterEvaluation(
        self, request: adapter_pb2.CreateAdapterEvaluationRequest, context: Context
    ) -> adapter_pb2.CreateAdapterEvaluationResponse:
        """Store what was measured."""
        evaluation = await commands.create_evaluation(
            self._db, new_evaluation(request.evaluation), request=request_of(request)
        )
        return adapter_pb2.CreateAdapterEvaluationResponse(evaluation=evaluation_message(evaluation))

    async def ListAdapterEvaluations(
        self, request: adapter_pb2.ListAdapterEvaluationsRequest, context: Context
    ) -> adapter_pb2.ListAdapterEvaluationsResponse:
        """Read a page, newest first."""
        page = cursor(request)
        async with self._db.connection() as conn:
            if request.adapter_id:
                await store.get(conn, request.adapter_id)
            found = await evaluation_store.page(conn, adapter_id=request.adapter_id, after=page.after, limit=page.limit)
        shown, token = page.cut(found, evaluation_message, lambda evaluation: evaluation.evaluation_id)
        return adapter_pb2.ListAdapterEvaluationsResponse(evaluations=shown, next_page_token=token)
