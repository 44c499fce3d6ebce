"""One job, as the service looks after it: fetch its inputs, start its process, watch it, see to it that it has an end.

The service may go away at any moment and come back: everything needed to go on is in the job's folder. The process is
started at most once at a time, by a lock that it takes itself: a second one, started by a service that did not know of
the first, leaves at once, and its service watches the first instead.
"""

from __future__ import annotations

import asyncio
import subprocess
import time
from collections.abc import AsyncIterator, Sequence

import structlog

from trainer_node.blob_folder import BlobFolder
from trainer_node.errors import DiskFull, InputsUnavailable, OffsetOutOfRange, ProcessDied
from trainer_node.inputs import BlobSource, fetch_inputs
from trainer_node.job_end import Death, write_end
from trainer_node.job_folder import JobFolder, StopRequest
from trainer_node.job_process import SPOOL_TAKEN
from trainer_node.process_watch import ChildProcess
from trainer_node.spawn import spawn
from trainer_node.spool import SpoolBusy, SpoolReader
from tunesmith.errors import TunesmithError
from tunesmith.v1 import job_event_pb2, trainer_pb2

FOLLOW_POLL_S = 0.02  # a look at the announced length costs microseconds; this keeps a frame within 50 ms of its event

log = structlog.get_logger()


class JobRunner:
    """A job and its folder. `begin` lets it live; `detach` leaves it alone without ending it."""

    def __init__(self, folder: JobFolder, *, command: Sequence[str], source: BlobSource) -> None:
        self.folder = folder
        self.job = folder.job()
        self.ended = asyncio.Event()
        self._command, self._source = command, source
        self._reader = SpoolReader(folder.spool)
        self._child = folder.child()
        self._popen: subprocess.Popen[bytes] | None = None
        self._stop = folder.stop_request()
        self._preparation: asyncio.Task[None] | None = None
        self._killer: asyncio.Task[None] | None = None
        self._life: asyncio.Task[None] | None = None
        self._log = log.bind(job_id=self.job.job_id, run_id=self.job.run_id, attempt=self.job.attempt)

    def begin(self) -> None:
        """Go on with the job from where its folder says it is."""
        last = self._reader.last_event()
        if last is not None and last.HasField("finished") and not (self._child and self._child.lives):
            self._reader.close()
            self.ended.set()
        else:
            self._life = asyncio.create_task(self._live(), name=self.job.job_id)

    async def detach(self) -> None:
        """Look after the job no longer; its process goes on."""
        tasks = [task for task in (self._life, self._killer) if task]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._reader.close()

    def is_leaving(self) -> bool:
        """Whether the job has told its end while its process is still there."""
        if self.ended.is_set():
            return False
        last = self._reader.last_event()
        return last is not None and last.HasField("finished")

    def status(self) -> trainer_pb2.JobStatus:
        """The job as it is now."""
        if self.ended.is_set():
            state = trainer_pb2.JOB_STATE_ENDED
        elif self._stop is not None:
            state = trainer_pb2.JOB_STATE_STOPPING
        elif self._child is None:
            state = trainer_pb2.JOB_STATE_PREPARING
        else:
            state = trainer_pb2.JOB_STATE_RUNNING
        return trainer_pb2.JobStatus(
            job_id=self.job.job_id,
            run_id=self.job.run_id,
            attempt=self.job.attempt,
            state=state,
            last_seq=self._reader.last_seq(),
            pid=self._child.pid if self._child and not self.ended.is_set() else 0,
        )

    async def stop(self, grace_s: float) -> None:
        """Ask the job to stop within `grace_s`; then its process group is killed. A later call may shorten that."""
        if self.ended.is_set():
            return
        request = StopRequest(deadline=time.time() + grace_s)
        if self._stop is None or request.deadline < self._stop.deadline:
            self._stop = request
            await asyncio.to_thread(self.folder.write_stop_request, request)
            self._log.info("job_stop_requested", grace_s=grace_s)
        if self._preparation is not None:
            self._preparation.cancel()
        self._enforce_stop()

    async def events(self, after_seq: int, *, heartbeat_s: float) -> AsyncIterator[list[job_event_pb2.JobEvent]]:
        """The events after a number, as they become durable; an empty list after each `heartbeat_s` of silence.

        Ends after the JobFinished. Raises OffsetOutOfRange for a number that the job has not reached.
        """
        known_bytes, last_sign = -1, time.monotonic()
        while True:
            durable_bytes = self._reader.durable_bytes()
            if durable_bytes != known_bytes:
                events = await asyncio.to_thread(self._reader.read, after_seq)
                if events:
                    yield events
                    after_seq, last_sign = events[-1].seq, time.monotonic()
                    if events[-1].HasField("finished"):
                        return
                    continue
                known_bytes = durable_bytes
                if await asyncio.to_thread(self._is_over, after_seq):
                    return
            if time.monotonic() - last_sign >= heartbeat_s:
                yield []
                last_sign = time.monotonic()
            await asyncio.sleep(FOLLOW_POLL_S)

    def _is_over(self, after_seq: int) -> bool:
        """Whether nothing comes after `after_seq` any more."""
        last = self._reader.last_event()
        last_seq = last.seq if last else 0
        if after_seq > last_seq:
            what = f"job {self.job.job_id} has {last_seq} events so far, none after number {after_seq}"
            raise OffsetOutOfRange(f"{what}; go on from {last_seq}", last_seq=last_seq)
        return last is not None and last.HasField("finished") and after_seq == last_seq

    async def _live(self) -> None:
        refusal = None
        try:
            if self._child is None:
                refusal = await self._prepare()
                if refusal is None and self._stop is None:
                    refusal = self._start_process()
            exit_code = await self._watch() if self._child else None
            await self._conclude(exit_code, refusal)
        except asyncio.CancelledError:
            raise
        except Exception:
            # nobody awaits this task: without this line a bug here would leave a job that never ends, in silence
            self._log.exception("job_runner_failed")
            raise

    async def _prepare(self) -> TunesmithError | None:
        """Fetch the inputs, unless asked to stop meanwhile. Returns why that is not possible."""
        if self._stop is not None:
            return None
        blobs = BlobFolder(self.folder.host().blobs_dir)
        self._preparation = asyncio.create_task(fetch_inputs(self.job, blobs, self._source))
        try:
            await asyncio.wait({self._preparation})
            if self._preparation.cancelled():
                return None
            self._preparation.result()
        except TunesmithError as error:
            self._log.warning("job_inputs_unavailable", reason=error.reason, error=error.message)
            return error
        except OSError as error:
            return InputsUnavailable(f"the inputs could not be stored ({error.strerror}); check the disk of the node")
        finally:
            self._preparation.cancel()
            self._preparation = None
        return None

    def _start_process(self) -> TunesmithError | None:
        """Start the training. Returns why that is not possible."""
        try:
            self._popen, self._child = spawn(self._command, self.folder, self.folder.host())
        except OSError as error:
            self._log.warning("job_process_not_started", error=str(error))
            return ProcessDied(f"the training process could not be started ({error.strerror}); check the node's limits")
        self._log.info("job_process_started", pid=self._child.pid)
        return None

    async def _watch(self) -> int | None:
        """Wait until the process has ended; returns its exit code if this service is its parent."""
        while self._child is not None:
            self._enforce_stop()
            await self._child.ended()
            exit_code = self._popen.wait() if self._popen else None
            if exit_code != SPOOL_TAKEN:
                return exit_code
            self._popen, self._child = None, await self._process_that_was_first()
        return None

    async def _process_that_was_first(self) -> ChildProcess | None:
        """The process that holds the spool already; it introduces itself in the folder as soon as it has it."""
        for _ in range(100):
            child = self.folder.child()
            if child is not None:
                return child
            await asyncio.sleep(0.05)
        return None

    def _enforce_stop(self) -> None:
        """Where a stop is wished: tell the process, and arrange for the end of its patience."""
        if self._stop is None or self._child is None:
            return
        if self._killer is not None:
            self._killer.cancel()
        self._child.terminate()
        self._killer = asyncio.create_task(self._kill_at(self._stop.deadline, self._child))

    async def _kill_at(self, deadline: float, child: ChildProcess) -> None:
        await asyncio.sleep(max(0.0, deadline - time.time()))
        if not self.ended.is_set() and child.lives:
            self._log.warning("job_process_killed", pid=child.pid)
            child.kill_group()

    async def _conclude(self, exit_code: int | None, refusal: TunesmithError | None) -> None:
        """End what is left of the process's group, then write the end. Tries until that has worked."""
        death = Death(child=self._child, exit_code=exit_code, refusal=refusal, stop_wished=self._stop is not None)
        wait_s = 0.05
        while True:
            try:
                if self._child is not None:
                    self._child.kill_group()
                await asyncio.to_thread(write_end, self.folder, death)
                break
            except (SpoolBusy, DiskFull, OSError) as error:
                self._log.warning("job_end_not_written", error=str(error), next_try_s=wait_s)
                await asyncio.sleep(wait_s)
                wait_s = min(10.0, wait_s * 2)
        self.ended.set()
        if self._killer is not None:
            self._killer.cancel()
        self._log.info("job_ended", exit_code=exit_code)
