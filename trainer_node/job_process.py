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
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from trainer_node.blob_folder import BlobFolder, file_digest
from trainer_node.errors import CheckpointCorrupt, DiskFull, InputsUnavailable
from trainer_node.job_folder import JobFolder
from trainer_node.log_lines import follow_outputs, tail
from trainer_node.memory_limit import oom_counter, oom_kills
from trainer_node.outcome import ended, exit_code, flush, leave
from trainer_node.process_watch import ChildProcess, start_mark
from trainer_node.spool import SpoolBusy, SpoolWriter
from trainer_node.stop_signal import StopSignal
from trainer_node.training import Outcome, Train, TrainingJob
from tunesmith.errors import TunesmithError
from tunesmith.spec import kind_of
from tunesmith.v1 import blob_pb2, job_event_pb2, trainer_pb2

if TYPE_CHECKING:
    from trainer_node.data.export import Export

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
        flush()
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
        data = read_data(job, blobs)
        resume_dir = restore_checkpoint(job, blobs, folder.resume)
        start_adapter_dir = restore_start_adapter(job, blobs, folder.start_adapter)
        corpus = lay_out_corpus(job, blobs, folder.corpus)
    training = TrainingJob(
        job=job,
        samples=data.training_samples(blobs.path),
        comparisons=data.training_comparisons(blobs.path),
        corpus_paths=(corpus,) if corpus else (),
        models_dir=host.models_dir,
        cache_dir=host.cache_dir,
        output_dir=folder.output,
        resume_dir=resume_dir,
        start_adapter_dir=start_adapter_dir,
        threads=host.threads,
        device=host.device,
    )
    return train(training, telemetry, blobs, stop)


def read_data(job: trainer_pb2.Job, blobs: BlobFolder) -> Export:
    """The job's frozen data set; nothing for a job that needs none. Raises DataInvalid."""
    from trainer_node.data.export import Export, read_export  # within reach of a stop: it takes a while

    if not job.dataset_digest:
        return Export()
    return read_export(blobs.existing(job.dataset_digest).read_bytes())


def restore_checkpoint(job: trainer_pb2.Job, blobs: BlobFolder, target: Path) -> Path | None:
    """The files of the checkpoint to go on from as a folder, their digests checked. Raises CheckpointCorrupt."""
    step = job.resume_from.step

    def damaged(path: str) -> CheckpointCorrupt:
        what = f"{path} of the checkpoint at step {step} was damaged on the disk of this node"
        return CheckpointCorrupt(f"{what}; resume the run to fetch it again", step=step)

    return _lay_out(job.resume_from.files, blobs, target, damaged)


def restore_start_adapter(job: trainer_pb2.Job, blobs: BlobFolder, target: Path) -> Path | None:
    """The adapter to start from as a folder, its digests checked. Raises InputsUnavailable."""

    def damaged(path: str) -> InputsUnavailable:
        what = f"{path} of the adapter to start from was damaged on the disk of this node"
        return InputsUnavailable(f"{what}; resume the run, or create a new one, to fetch it again")

    return _lay_out(job.start_adapter.files, blobs, target, damaged)


def lay_out_corpus(job: trainer_pb2.Job, blobs: BlobFolder, target: Path) -> Path | None:
    """The text files of a language model as a folder, their digests checked; None where it has none of its own.

    Raises InputsUnavailable.
    """
    named = job.spec.tiny_lm.corpus.corpus_files
    files = [blob_pb2.File(path=file.name, digest=file.digest) for file in named]

    def damaged(path: str) -> InputsUnavailable:
        what = f"{path} of the corpus was damaged on the disk of this node"
        return InputsUnavailable(f"{what}; resume the run, or create a new one, to fetch it again")

    return _lay_out(files, blobs, target, damaged)


def _lay_out(
    files: Iterable[blob_pb2.File], blobs: BlobFolder, target: Path, damaged: Callable[[str], TunesmithError]
) -> Path | None:
    """Copies of the blobs under their paths in `target`; None where there are none. A damaged blob is discarded."""
    shutil.rmtree(target, ignore_errors=True)
    laid_out = None
    for file in files:
        path = target / file.path
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(blobs.existing(file.digest), path)
        except OSError:  # a disk that is full takes back what it has of it, so that the end of the job can be written
            shutil.rmtree(target, ignore_errors=True)
            raise
        if file_digest(path) != file.digest:
            blobs.discard(file.digest)
            raise damaged(file.path)
        laid_out = target
    return laid_out


def main() -> None:
    """The program."""
    from trainer_node.engines.registry import engine_for

    faulthandler.enable()
    _be_first_to_go()
    leave(run(JobFolder(Path(sys.argv[1])), engine_for))


def _be_first_to_go() -> None:
    """When memory runs out, the kernel shall end the training, not the services beside it."""
    with suppress(OSError):  # not on every system
        Path("/proc/self/oom_score_adj").write_text("500")


if __name__ == "__main__":
    main()
