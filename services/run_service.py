"""RunService: unpack, one call, pack."""

from __future__ import annotations

from collections.abc import AsyncIterator

from control_plane import reports
from control_plane.db.notify import run_topic
from control_plane.db.pool import Database
from control_plane.ports import Blobs
from control_plane.runs import commands, store
from services.convert.runs import checkpoint_message, event_message, preview_message, run_message, state_of
from services.rpc.calls import Context
from services.rpc.paging import cursor
from services.rpc.requests import request_of
from services.rpc.watch import watch
from services.run_watch import RunSource, run_frame
from tunesmith.v1 import run_pb2, run_pb2_grpc


class RunService(run_pb2_grpc.RunServiceServicer):
    """Trainings that were asked for. What each RPC promises stands in run.proto."""

    def __init__(self, db: Database, blobs: Blobs) -> None:
        self._db = db
        self._blobs = blobs

    async def CreateRun(self, request: run_pb2.CreateRunRequest, context: Context) -> run_pb2.CreateRunResponse:
        """Queue a training."""
        run = await commands.create_run(
            self._db,
            self._blobs,
            experiment_id=request.experiment_id,
            display_name=request.display_name,
            dataset_version_id=request.dataset_version_id or None,
            min_rating=request.min_rating if request.HasField("min_rating") else None,
            spec=request.spec if request.HasField("spec") else None,
            priority=request.priority,
            labels=dict(request.labels),
            validate_only=request.validate_only,
            request=request_of(request),
        )
        return run_pb2.CreateRunResponse(run=run_message(run))

    async def GetRun(self, request: run_pb2.GetRunRequest, context: Context) -> run_pb2.GetRunResponse:
        """Read one."""
        async with self._db.connection() as conn:
            run = await store.get(conn, request.run_id)
        return run_pb2.GetRunResponse(run=run_message(run))

    async def ListRuns(self, request: run_pb2.ListRunsRequest, context: Context) -> run_pb2.ListRunsResponse:
        """Read a page, newest first."""
        page = cursor(request)
        async with self._db.connection() as conn:
            found = await store.page(
                conn,
                experiment_id=request.experiment_id,
                states=[state for state in map(state_of, request.states) if state],
                id_prefix=request.id_prefix,
                after=page.after,
                limit=page.limit,
            )
        shown, token = page.cut(found, run_message, lambda run: run.run_id)
        return run_pb2.ListRunsResponse(runs=shown, next_page_token=token)

    async def CancelRun(self, request: run_pb2.CancelRunRequest, context: Context) -> run_pb2.CancelRunResponse:
        """Ask it to stop."""
        run = await commands.cancel_run(self._db, run_id=request.run_id)
        return run_pb2.CancelRunResponse(run=run_message(run))

    async def ResumeRun(self, request: run_pb2.ResumeRunRequest, context: Context) -> run_pb2.ResumeRunResponse:
        """Queue a run that goes on from its last checkpoint."""
        step = request.checkpoint_step if request.HasField("checkpoint_step") else None
        run = await commands.resume_run(
            self._db, run_id=request.run_id, checkpoint_step=step, request=request_of(request)
        )
        return run_pb2.ResumeRunResponse(run=run_message(run))

    async def GetRunReport(
        self, request: run_pb2.GetRunReportRequest, context: Context
    ) -> run_pb2.GetRunReportResponse:
        """Read the report of a run that succeeded."""
        async with self._db.connection() as conn:
            found = await reports.of_run(conn, request.run_id)
        return run_pb2.GetRunReportResponse(report=found.report, markdown=found.markdown)

    async def WatchRun(
        self, request: run_pb2.WatchRunRequest, context: Context
    ) -> AsyncIterator[run_pb2.WatchRunResponse]:
        """Follow its state and progress until it has ended."""
        with self._db.hub.subscribe(run_topic(request.run_id)) as wake:
            async for frame in watch(RunSource(self._db, request.run_id), after=None, wake=wake):
                yield run_frame(frame)

    async def ListRunEvents(
        self, request: run_pb2.ListRunEventsRequest, context: Context
    ) -> run_pb2.ListRunEventsResponse:
        """Read a page of what happened to it, oldest first."""
        page = cursor(request)
        async with self._db.connection() as conn:
            found = await store.events(conn, run_id=request.run_id, after=page.after, limit=page.limit)
        shown, token = page.cut(found, event_message, lambda event: event.key)
        return run_pb2.ListRunEventsResponse(events=shown, next_page_token=token)

    async def ListCheckpoints(
        self, request: run_pb2.ListCheckpointsRequest, context: Context
    ) -> run_pb2.ListCheckpointsResponse:
        """Read a page of its checkpoints, by step."""
        page = cursor(request)
        async with self._db.connection() as conn:
            found = await store.checkpoints(conn, run_id=request.run_id, after=page.after, limit=page.limit)
        shown, token = page.cut(found, checkpoint_message, lambda saved: saved.key)
        return run_pb2.ListCheckpointsResponse(checkpoints=shown, next_page_token=token)

    async def ListPreviews(
        self, request: run_pb2.ListPreviewsRequest, context: Context
    ) -> run_pb2.ListPreviewsResponse:
        """Read a page of its previews, by step and prompt."""
        page = cursor(request)
        async with self._db.connection() as conn:
            found = await store.previews(conn, run_id=request.run_id, after=page.after, limit=page.limit)
        shown, token = page.cut(found, preview_message, lambda preview: preview.key)
        return run_pb2.ListPreviewsResponse(previews=shown, next_page_token=token)
