"""What the control plane tells a node, and what it makes of the answer. Every order may be given twice.

No answer says nothing: the order is repeated with the next tick, and the lease decides in the end.
"""

from __future__ import annotations

import structlog

from control_plane.adapters import store as adapters
from control_plane.adapters.model import Adapter
from control_plane.config import DispatchConfig
from control_plane.datasets import store as datasets
from control_plane.datasets.model import DatasetVersion
from control_plane.db.pool import Database
from control_plane.errors import LeaseLost, NodeRefused, NodeUnreachable
from control_plane.nodes.model import Node
from control_plane.ports import Trainer
from control_plane.runs import commands, job_store
from control_plane.runs import store as runs
from control_plane.runs.model import Checkpoint, Job, Run
from control_plane.runs.start_adapter import start_adapter_message
from tunesmith.v1 import job_event_pb2, run_pb2, trainer_pb2

log = structlog.get_logger()

# Reasons of a node to refuse a job that another node, a later time or a later attempt may take.
NO_ROOM = frozenset({"NODE_FULL", "DISK_FULL", "TRAINING_KIND_UNAVAILABLE", "LEASE_LOST"})


class Orders:
    """Orders to nodes. None is given inside a transaction."""

    def __init__(self, db: Database, trainer: Trainer, config: DispatchConfig) -> None:
        self._db = db
        self._trainer = trainer
        self._config = config

    async def start(self, node: Node, job: Job) -> bool:
        """Start a job and write down that it was acknowledged; False where the node has no room, and gave it back.

        A node that refuses it for another reason fails the run with that reason.
        """
        try:
            await self._trainer.start_job(node, await self._message(job))
        except NodeUnreachable as error:
            log.warning("start_unanswered", node_id=node.node_id, job_id=job.job_id, error=error.message)
        except NodeRefused as refusal:
            return await self._refused(node, job, refusal)
        else:
            await commands.mark_started(self._db, job)
        return True

    async def _message(self, job: Job) -> trainer_pb2.Job:
        async with self._db.connection() as conn:
            run = await runs.get(conn, job.run_id)
            checkpoint = await job_store.checkpoint_of(conn, job)
            version = await datasets.get_version(conn, run.dataset_version_id) if run.dataset_version_id else None
            start = await adapters.get(conn, run.start_adapter_id) if run.start_adapter_id else None
        return job_message(run, job, version=version, resume_from=checkpoint, start=start)

    async def _refused(self, node: Node, job: Job, refusal: NodeRefused) -> bool:
        given = refusal.given_reason
        log.warning("start_refused", node_id=node.node_id, job_id=job.job_id, reason=given, error=refusal.message)
        if given == "UNAVAILABLE":  # it goes down; as good as no answer
            return True
        if given in NO_ROOM:
            await commands.give_back(self._db, job, f"node {node.name} has no room for it: {refusal.message}")
            return False
        failed = job_event_pb2.JobFailed(reason=given, message=f"node {node.name} refused it: {refusal.message}")
        await self._finish(job, job_event_pb2.JobFinished(failed=failed))
        return True

    async def stop(self, node: Node, job: Job) -> None:
        """Ask for a job to stop. One that the node does not know, so that it will never tell its end, ends here."""
        try:
            await self._trainer.stop_job(node, job.job_id, self._config.stop_grace_s)
        except NodeUnreachable as error:
            log.warning("stop_unanswered", node_id=node.node_id, job_id=job.job_id, error=error.message)
        except NodeRefused as refusal:
            log.warning("stop_refused", node_id=node.node_id, job_id=job.job_id, reason=refusal.given_reason)
            if refusal.given_reason == "JOB_NOT_FOUND":
                await self._finish(job, job_event_pb2.JobFinished(cancelled=job_event_pb2.JobCancelled()))

    async def stop_strays(self, node: Node) -> None:
        """Stop what runs on a node though it has ended here: attempts that were lost, and went on behind a cut link."""
        try:
            reported = await self._trainer.list_jobs(node)
            running = [status.job_id for status in reported if status.state != trainer_pb2.JOB_STATE_ENDED]
            async with self._db.connection() as conn:
                strays = await job_store.ended_among(conn, running)
            for job_id in sorted(strays):
                log.warning("stray_job_stopped", node_id=node.node_id, job_id=job_id)
                await self._trainer.stop_job(node, job_id, self._config.stop_grace_s)
        except (NodeUnreachable, NodeRefused) as error:
            log.warning("reconciliation_failed", node_id=node.node_id, error=error.message)

    async def _finish(self, job: Job, finished: job_event_pb2.JobFinished) -> None:
        try:
            async with self._db.transaction() as conn:
                await commands.finish_run(conn, job, finished, None, commands.DISPATCH)
        except LeaseLost:
            log.info("order_came_late", job_id=job.job_id)


def job_message(
    run: Run, job: Job, *, version: DatasetVersion | None, resume_from: Checkpoint | None, start: Adapter | None
) -> trainer_pb2.Job:
    """A job as its node is told of it. start: the adapter that it starts from."""
    message = trainer_pb2.Job(
        job_id=job.job_id,
        run_id=job.run_id,
        attempt=job.attempt,
        rank=job.rank,
        spec=run.spec,
        dataset_version_id=run.dataset_version_id or "",
        dataset_digest=version.digest if version else "",
        start_adapter=start_adapter_message(start) if start else None,
        derivation=version.derivation if version else None,
    )
    if resume_from is not None:
        checkpoint = run_pb2.Checkpoint(
            run_id=resume_from.run_id,
            attempt=resume_from.attempt,
            step=resume_from.step,
            epoch=resume_from.epoch,
            eval_loss=resume_from.eval_loss,
            best=resume_from.best,
            files=resume_from.files,
        )
        message.resume_from.CopyFrom(checkpoint)
    return message
