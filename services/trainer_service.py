"""TrainerService: the node's jobs, for the control plane. Unpack, one call, pack."""

from __future__ import annotations

from collections.abc import AsyncIterator

from services.rpc.calls import Context
from trainer_node.jobs import Jobs
from tunesmith.v1 import trainer_pb2, trainer_pb2_grpc


class TrainerService(trainer_pb2_grpc.TrainerServiceServicer):
    """The jobs of this node. What each RPC promises stands in trainer.proto."""

    def __init__(self, jobs: Jobs) -> None:
        self._jobs = jobs

    async def StartJob(self, request: trainer_pb2.StartJobRequest, context: Context) -> trainer_pb2.StartJobResponse:
        """Take a job."""
        return trainer_pb2.StartJobResponse(status=await self._jobs.start(request.job))

    async def StopJob(self, request: trainer_pb2.StopJobRequest, context: Context) -> trainer_pb2.StopJobResponse:
        """Ask a job to stop."""
        return trainer_pb2.StopJobResponse(status=await self._jobs.stop(request.job_id, request.grace_s))

    async def GetJobs(self, request: trainer_pb2.GetJobsRequest, context: Context) -> trainer_pb2.GetJobsResponse:
        """Tell the jobs."""
        return trainer_pb2.GetJobsResponse(jobs=self._jobs.statuses())

    async def StreamJobEvents(
        self, request: trainer_pb2.StreamJobEventsRequest, context: Context
    ) -> AsyncIterator[trainer_pb2.StreamJobEventsResponse]:
        """Follow a job; no news is a heartbeat."""
        async for events in self._jobs.events(request.job_id, request.after_seq):
            if events:
                yield trainer_pb2.StreamJobEventsResponse(events=trainer_pb2.JobEvents(events=events))
            else:
                yield trainer_pb2.StreamJobEventsResponse(heartbeat={})
