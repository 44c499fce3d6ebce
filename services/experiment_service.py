"""ExperimentService: unpack, one call, pack."""

from __future__ import annotations

from control_plane.db.pool import Database
from control_plane.experiments import commands, store
from services.convert.experiments import experiment_changes, experiment_message
from services.rpc.calls import Context
from services.rpc.masks import paths_of
from services.rpc.paging import cursor
from services.rpc.requests import request_of
from tunesmith.v1 import experiment_pb2, experiment_pb2_grpc

CHANGEABLE = ("description", "dataset_id", "default_spec", "labels")


class ExperimentService(experiment_pb2_grpc.ExperimentServiceServicer):
    """Groups of runs. What each RPC promises stands in experiment.proto."""

    def __init__(self, db: Database) -> None:
        self._db = db

    async def CreateExperiment(
        self, request: experiment_pb2.CreateExperimentRequest, context: Context
    ) -> experiment_pb2.CreateExperimentResponse:
        """Store an experiment."""
        given = request.experiment
        experiment = await commands.create_experiment(
            self._db,
            name=given.name,
            description=given.description,
            dataset_id=given.dataset_id or None,
            default_spec=given.default_spec if given.HasField("default_spec") else None,
            labels=dict(given.labels),
            request=request_of(request),
        )
        return experiment_pb2.CreateExperimentResponse(experiment=experiment_message(experiment))

    async def GetExperiment(
        self, request: experiment_pb2.GetExperimentRequest, context: Context
    ) -> experiment_pb2.GetExperimentResponse:
        """Read one."""
        async with self._db.connection() as conn:
            experiment = await store.get(conn, request.experiment_id)
        return experiment_pb2.GetExperimentResponse(experiment=experiment_message(experiment))

    async def ListExperiments(
        self, request: experiment_pb2.ListExperimentsRequest, context: Context
    ) -> experiment_pb2.ListExperimentsResponse:
        """Read a page, newest first."""
        page = cursor(request)
        async with self._db.connection() as conn:
            found = await store.page(
                conn, name=request.name, id_prefix=request.id_prefix, after=page.after, limit=page.limit
            )
        shown, token = page.cut(found, experiment_message, lambda experiment: experiment.experiment_id)
        return experiment_pb2.ListExperimentsResponse(experiments=shown, next_page_token=token)

    async def UpdateExperiment(
        self, request: experiment_pb2.UpdateExperimentRequest, context: Context
    ) -> experiment_pb2.UpdateExperimentResponse:
        """Change the fields that the mask names."""
        given = request.experiment
        experiment = await commands.update_experiment(
            self._db,
            experiment_id=given.experiment_id,
            etag=given.etag,
            changes=experiment_changes(given, paths_of(request.update_mask, changeable=CHANGEABLE)),
        )
        return experiment_pb2.UpdateExperimentResponse(experiment=experiment_message(experiment))
