"""The process that trains one job: `python -m trainer_node.job_process JOB_FOLDER`.

It writes the job's spool and nobody else does while it lives; it knows nothing of the service that started it, and
outlives it. What it prints goes to files and from there, as log events, into the spool; the end of the job is written
last, behind every line. No gRPC may be imported here: engines fork worker processes.
"""

from __future__ import annotations

import faulthandler
import os
import shutil
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from trainer_node.blob_folder import BlobFolder, file_digest
from trainer_node.errors import CheckpointCorrupt, DiskFull
from trainer_node.job_folder import JobFolder
from trainer_node.log_lines import follow_outputs, tail
from trainer_node.memory_limit import oom_counter, oom_kills
from trainer_node.outcome import ended, exit_code
from trainer_node.process_watch import ChildProcess, start_mark
from trainer_node.spool import SpoolBusy, SpoolWriter
from trainer_node.stop_signal import StopSignal
from trainer_node.training import Outcome, Train, TrainingJob, TrainingSample
from tunesmith.spec import kind_of
from tunesmith.v1 import job_event_pb2, trainer_pb2

LOG_POLL_S = 0.05
SPOOL_TAKEN = 75  # exit code: another process trains this job already

EngineFor = Callable[[str], Train]


def run(folder: JobFolder, engine_for: EngineFor) -> int:
    """Train the job of `folder` to its end. Returns the exit code: 0 succeeded, 1 failed, 130 stopped on request."""
    stop = StopSignal()
    stop.install()
    try:
        spool = SpoolWriter(folder.spool)
    except SpoolBusy:
        return SPOOL_TAKEN
    folder.write_child(this_process())
    job = folder.job()
    log = LogPump(folder, spool)
    log.start()
    end = ended(lambda: _train(folder, job, engine_for, SpoolTelemetry(spool), stop), job.spec)
    log.stop()
    if end.HasField("failed"):
        end.failed.stderr_tail = tail(folder.stderr)
    spool.finish(job_event_pb2.JobEvent(finished=end))
    return exit_code(end)


def this_process() -> ChildProcess:
    """This process, as the service has to know it."""
    counter = oom_counter()
    return ChildProcess(
        pid=os.getpid(), started=start_mark(os.getpid()), oom_file=counter, oom_kills=oom_kills(counter)
    )


class SpoolTelemetry:
    """The port Telemetry over the spool."""

    def __init__(self, spool: SpoolWriter) -> None:
        self._spool = spool

    def emit(self, event: job_event_pb2.JobEvent) -> None:
        """Number, time and queue one event. Raises DiskFull."""
        self._spool.append(event)


class LogPump:
    """Follows this process's own output files into the spool, from a thread of its own."""

    def __init__(self, folder: JobFolder, spool: SpoolWriter) -> None:
        self._spool = spool
        self._followers = follow_outputs(folder.stdout, folder.stderr, {})
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="log", daemon=True)

    def start(self) -> None:
        """Begin to follow."""
        self._thread.start()

    def stop(self) -> None:
        """Take everything printed so far, a last line without its end included, then end."""
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        self._stopping.set()
        self._thread.join()

    def _run(self) -> None:
        try:
            while not self._stopping.wait(LOG_POLL_S):
                self._take(final=False)
            self._take(final=True)
        except DiskFull:
            return  # the training meets the same error at its next event; the lines stay in their files

    def _take(self, *, final: bool) -> None:
        for follower in self._followers:
            for batch in follower.read(final=final):
                self._spool.append(job_event_pb2.JobEvent(logs=batch))


def _train(
    folder: JobFolder, job: trainer_pb2.Job, engine_for: EngineFor, telemetry: SpoolTelemetry, stop: StopSignal
) -> Outcome:
    host = folder.host()
    blobs = BlobFolder(host.blobs_dir)
    with stop.interrupting():
        train = engine_for(kind_of(job.spec))
        samples = read_samples(job, blobs)
        resume_dir = restore_checkpoint(job, blobs, folder.resume)
    training = TrainingJob(
        job=job,
        samples=samples,
        models_dir=host.models_dir,
        cache_dir=host.cache_dir,
        output_dir=folder.output,
        resume_dir=resume_dir,
        threads=host.threads,
        device=host.device,
    )
    return train(training, telemetry, blobs, stop)


def read_samples(job: trainer_pb2.Job, blobs: BlobFolder) -> list[TrainingSample]:
    """The samples of the job's frozen data set. Raises DataInvalid."""
    from trainer_node.data.jsonl import frozen_training_samples, read_export  # within reach of a stop: it takes a while

    if not job.dataset_digest:
        return []
    return frozen_training_samples(read_export(blobs.existing(job.dataset_digest).read_bytes()), blobs.path)


def restore_checkpoint(job: trainer_pb2.Job, blobs: BlobFolder, target: Path) -> Path | None:
    """The files of the checkpoint to go on from as a folder, their digests checked. Raises CheckpointCorrupt."""
    if not job.resume_from.files:
        return None
    shutil.rmtree(target, ignore_errors=True)
    for file in job.resume_from.files:
        path = target / file.path
        path.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(blobs.existing(file.digest), path)
        if file_digest(path) != file.digest:
            blobs.discard(file.digest)
            what = f"{file.path} of the checkpoint at step {job.resume_from.step} was damaged on the disk of this node"
            raise CheckpointCorrupt(f"{what}; resume the run to fetch it again", step=job.resume_from.step)
    return target


def main() -> None:
    """The program."""
    from trainer_node.engines.registry import engine_for

    faulthandler.enable()
    _be_first_to_go()
    code = run(JobFolder(Path(sys.argv[1])), engine_for)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)  # the end is durable: no thread or worker that a library left behind may hold it up


def _be_first_to_go() -> None:
    """When memory runs out, the kernel shall end the training, not the services beside it."""
    with suppress(OSError):  # not on every system
        Path("/proc/self/oom_score_adj").write_text("500")


if __name__ == "__main__":
    main()
