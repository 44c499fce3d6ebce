"""A whole training in this process, with no control plane: what `python -m trainer_node` and `tunesmith train` run.

The same engine as on a node. Events go to a callback; artefacts stay in the output folder, described by their digests.
"""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from trainer_node import checkpoints
from trainer_node.blob_folder import file_digest
from trainer_node.engines.registry import engine_for
from trainer_node.errors import DataInvalid
from trainer_node.outcome import ended
from trainer_node.training import Outcome, StopRequested, TrainingJob, TrainingSample
from tunesmith.errors import FieldProblem, InvalidField
from tunesmith.spec import kind_of, resolve
from tunesmith.v1 import blob_pb2, job_event_pb2, job_spec_pb2, trainer_pb2

OnEvent = Callable[[job_event_pb2.JobEvent], None]


def run_foreground(
    spec: job_spec_pb2.JobSpec,
    samples: Sequence[TrainingSample],
    *,
    models_dir: Path,
    output_dir: Path,
    on_event: OnEvent,
    resume: bool = False,
    stop: StopRequested = lambda: False,
    cache_dir: Path | None = None,
    dataset_digest: str = "",
    threads: int | None = None,
    device: str | None = None,
) -> job_event_pb2.JobFinished:
    """Train to the end, or until `stop` returns true; the end is also the last event.

    spec: what is left open takes the contract's default. on_event: called with numbered, timed events, one at a time,
    from any thread. resume: go on from the newest whole checkpoint in `output_dir`. cache_dir: by default
    `output_dir/cache`. Raises InvalidField for a wrong spec, for an output folder that holds a training already and
    `resume` is not set, and where there is nothing to resume; everything later is told by the JobFinished returned.
    """
    job = trainer_pb2.Job(spec=resolve(spec), attempt=1, dataset_digest=dataset_digest)
    training = TrainingJob(
        job=job,
        samples=samples,
        models_dir=models_dir,
        cache_dir=cache_dir or output_dir / "cache",
        output_dir=output_dir,
        resume_dir=_checkpoint_in(output_dir, resume=resume),
        threads=threads,
        device=device,
    )
    telemetry = CallbackTelemetry(on_event)

    def train() -> Outcome:
        if not samples:
            raise DataInvalid("there is nothing to train on; give at least one clip")
        return engine_for(kind_of(job.spec))(training, telemetry, OutputFiles(), stop)

    end = ended(train, job.spec)
    telemetry.emit(job_event_pb2.JobEvent(finished=end))
    return end


class CallbackTelemetry:
    """The port Telemetry over a callback."""

    def __init__(self, on_event: OnEvent) -> None:
        self._on_event = on_event
        self._numbers = itertools.count(1)
        self._one_at_a_time = threading.Lock()

    def emit(self, event: job_event_pb2.JobEvent) -> None:
        """Number, time and hand on one event."""
        with self._one_at_a_time:
            event.seq = next(self._numbers)
            event.time.FromNanoseconds(time.time_ns())
            self._on_event(event)


class OutputFiles:
    """The port Blobs where nothing is copied anywhere: files are described and stay where they are."""

    def keep(self, path: Path, name: str) -> blob_pb2.File:
        """Describe a file under `name`."""
        return blob_pb2.File(path=name, digest=file_digest(path), size_bytes=path.stat().st_size)


def _checkpoint_in(output_dir: Path, *, resume: bool) -> Path | None:
    folder = output_dir / "checkpoints"
    if resume:
        newest = checkpoints.latest(folder)
        if newest is None:
            what = f"{folder} has no whole checkpoint to resume from; start without --resume"
            raise InvalidField.of([FieldProblem("output", what)])
        return newest
    if checkpoints.checkpoints(folder):
        what = f"{output_dir} holds a training already; go on with it by --resume, or give another folder"
        raise InvalidField.of([FieldProblem("output", what)])
    return None
