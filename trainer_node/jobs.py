"""The jobs of a node: which may start, which run, and which were left by the service that ran before this one.

The attempt number is the fence: what was seen is read back from the job folders, so a restarted service refuses the
same attempts as the one before. A slot is taken from the moment a job is accepted until its end is written.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import sys
import time
from collections.abc import AsyncIterator, Collection, Sequence

import structlog

from trainer_node.blob_folder import BlobFolder, FullDiskNamed, disk_full
from trainer_node.config import TrainerNodeConfig
from trainer_node.engines.registry import KINDS
from trainer_node.errors import JobNotFound, LeaseLost, NodeFull, TrainingKindUnavailable
from trainer_node.inputs import BlobSource
from trainer_node.job_folder import HostSettings, JobFolder
from trainer_node.job_runner import JobRunner
from tunesmith.spec import kind_of
from tunesmith.v1 import job_event_pb2, trainer_pb2

CHILD_COMMAND = (sys.executable, "-m", "trainer_node.job_process")
FORGET_EVERY_S = 3600.0
DAY_S = 86_400.0
LEAVE_S = 2.0  # from the last event to the end of the process
SUPERSEDE_S = 5.0  # a predecessor is killed at once; this long for the kernel to do it

log = structlog.get_logger()


class Jobs:
    """All jobs of this node. Use it as an async context manager: entering re-adopts, leaving lets processes run on."""

    def __init__(
        self,
        config: TrainerNodeConfig,
        source: BlobSource,
        *,
        kinds: Collection[str] = tuple(KINDS),
        child_command: Sequence[str] = CHILD_COMMAND,
    ) -> None:
        self._config, self._source = config, source
        self._kinds, self._command = kinds, child_command
        self._runners: dict[str, JobRunner] = {}
        self._starting = asyncio.Lock()
        self._janitor: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Jobs:
        for folder in (self._config.jobs_dir, self._config.blobs_dir, self._config.cache_dir):
            folder.mkdir(parents=True, exist_ok=True)
        for job_folder in JobFolder.all_in(self._config.jobs_dir):
            runner = self._look_after(job_folder)
            if not runner.ended.is_set():
                log.info("job_readopted", job_id=runner.job.job_id, run_id=runner.job.run_id, pid=runner.status().pid)
        self._janitor = asyncio.create_task(self._forget_now_and_then())
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._janitor is not None:
            self._janitor.cancel()
        await asyncio.gather(*(runner.detach() for runner in self._runners.values()))

    async def start(self, job: trainer_pb2.Job) -> trainer_pb2.JobStatus:
        """Take a job; known ones are left as they are.

        Raises LeaseLost, TrainingKindUnavailable, NodeFull, DiskFull.
        """
        async with self._starting:
            if job.job_id in self._runners:
                return self._runners[job.job_id].status()
            self._require_current(job)
            await self._stop_predecessors(job)
            self._require_kind(job)
            await self._require_slot()
            self._require_room()
            with FullDiskNamed(self._config.data_dir):
                folder = await asyncio.to_thread(JobFolder.create, self._config.jobs_dir, job, self._host())
            log.info("job_accepted", job_id=job.job_id, run_id=job.run_id, attempt=job.attempt)
            return self._look_after(folder).status()

    async def stop(self, job_id: str, grace_s: float) -> trainer_pb2.JobStatus:
        """Ask a job to stop. Raises JobNotFound."""
        runner = self._find(job_id)
        await runner.stop(grace_s)
        return runner.status()

    def statuses(self) -> list[trainer_pb2.JobStatus]:
        """Every job that was not forgotten, oldest first."""
        return [self._runners[job_id].status() for job_id in sorted(self._runners)]

    def events(self, job_id: str, after_seq: int) -> AsyncIterator[list[job_event_pb2.JobEvent]]:
        """The events of a job after a number; see JobRunner.events. Raises JobNotFound."""
        return self._find(job_id).events(after_seq, heartbeat_s=self._config.heartbeat_s)

    @property
    def kinds(self) -> list[str]:
        """The kinds of training that this node runs."""
        return sorted(self._kinds)

    @property
    def running(self) -> int:
        """How many jobs have not ended."""
        return self._config.slots - self._free_slots()

    def _look_after(self, folder: JobFolder) -> JobRunner:
        runner = JobRunner(folder, command=self._command, source=self._source)
        self._runners[runner.job.job_id] = runner
        runner.begin()
        return runner

    def _find(self, job_id: str) -> JobRunner:
        if job_id not in self._runners:
            raise JobNotFound(f"this node has no job {job_id}; it may have been forgotten", job_id=job_id)
        return self._runners[job_id]

    def _require_current(self, job: trainer_pb2.Job) -> None:
        for other in (runner.job for runner in self._runners.values() if runner.job.run_id == job.run_id):
            newer = other.attempt > job.attempt
            if newer or (other.attempt == job.attempt and other.rank == job.rank):
                what = (
                    f"attempt {job.attempt} of {job.run_id} is not current: {other.job_id} is attempt {other.attempt}"
                )
                raise LeaseLost(f"{what}; start a higher attempt", run_id=job.run_id, attempt=other.attempt)

    async def _stop_predecessors(self, job: trainer_pb2.Job) -> None:
        for runner in list(self._runners.values()):
            if runner.job.run_id == job.run_id and runner.job.attempt < job.attempt and not runner.ended.is_set():
                if not runner.is_leaving():
                    log.warning("job_superseded", job_id=runner.job.job_id, run_id=job.run_id, by_attempt=job.attempt)
                    await runner.stop(0)
                if not await _within(SUPERSEDE_S, runner.ended):
                    log.warning("job_outlived_its_kill", job_id=runner.job.job_id)  # it keeps its slot

    def _require_kind(self, job: trainer_pb2.Job) -> None:
        kind = kind_of(job.spec)
        if kind not in self._kinds:
            what = f"this node does not train {kind or 'a job of no kind'}; it trains: {', '.join(self.kinds)}"
            raise TrainingKindUnavailable(what, kind=kind)

    async def _require_slot(self) -> None:
        """Raise NodeFull unless a slot is free; waits a moment for a process that is leaving after its end."""
        for runner in self._runners.values():
            if self._free_slots() > 0:
                break
            if runner.is_leaving():
                await _within(LEAVE_S, runner.ended)
        if self._free_slots() <= 0:
            what = f"all {self._config.slots} slots are taken; wait for a job to end, or raise node.slots"
            raise NodeFull(what, slots=self._config.slots)

    def _free_slots(self) -> int:
        return self._config.slots - sum(not runner.ended.is_set() for runner in self._runners.values())

    def _require_room(self) -> None:
        if shutil.disk_usage(self._config.data_dir).free < self._config.min_free_bytes:
            raise disk_full(self._config.data_dir)

    def _host(self) -> HostSettings:
        config = self._config
        return HostSettings(
            blobs_dir=config.blobs_dir.absolute(),
            models_dir=config.models_dir.absolute(),
            cache_dir=config.cache_dir.absolute(),
            threads=config.threads or max(1, len(os.sched_getaffinity(0)) // config.slots),
            device=config.device or None,
        )

    async def _forget_now_and_then(self) -> None:
        while True:
            for job_id, runner in list(self._runners.items()):
                if runner.ended.is_set() and _age_s(runner.folder) > self._config.keep_ended_s:
                    del self._runners[job_id]
                    await runner.detach()
                    await asyncio.to_thread(runner.folder.remove)
                    log.info("job_forgotten", job_id=job_id)
            await self._evict_blobs()
            await asyncio.sleep(FORGET_EVERY_S)

    async def _evict_blobs(self) -> None:
        """Remove blobs that nothing has needed for long, unless a job is just looking for its own."""
        blobs, keep_s = BlobFolder(self._config.blobs_dir), self._config.keep_ended_s
        async with self._starting:
            if any(status.state == trainer_pb2.JOB_STATE_PREPARING for status in self.statuses()):
                return
            # while a training runs, what it has just stored may still be on its way to the control plane
            if freed := await asyncio.to_thread(blobs.evict, max(keep_s, DAY_S) if self.running else keep_s):
                log.info("blobs_evicted", size_bytes=freed)


async def _within(limit_s: float, event: asyncio.Event) -> bool:
    try:
        await asyncio.wait_for(event.wait(), limit_s)
    except TimeoutError:
        return False
    return True


def _age_s(folder: JobFolder) -> float:
    """Seconds since the last event of a job."""
    return time.time() - (folder.spool / "events.head").stat().st_mtime
