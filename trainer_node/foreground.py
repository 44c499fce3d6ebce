"""A whole training in this process, with no control plane: what `python -m trainer_node` and `tunesmith train` run.

The same engine as on a node. Events go to a callback; artefacts stay in the output folder, described by their digests.
"""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from trainer_node import checkpoints, start_adapter
from trainer_node.blob_folder import file_digest
from trainer_node.engines.registry import engine_for
from trainer_node.errors import DataInvalid
from trainer_node.outcome import ended
from trainer_node.training import Outcome, StopRequested, TrainingComparison, TrainingJob, TrainingSample
from tunesmith.errors import FieldProblem, InvalidField
from tunesmith.spec import kind_of, resolve
from tunesmith.v1 import blob_pb2, dataset_pb2, job_event_pb2, job_spec_pb2, trainer_pb2

OnEvent = Callable[[job_event_pb2.JobEvent], None]


def run_foreground(
    spec: job_spec_pb2.JobSpec,
    samples: Sequence[TrainingSample] = (),
    *,
    comparisons: Sequence[TrainingComparison] = (),
    derivation: dataset_pb2.Derivation | None = None,
    start_adapter_dir: Path | None = None,
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

    spec: what is left open takes the contract's default. samples, comparisons: what the kind of training takes; the
    other is empty. derivation: how the comparisons were derived, for the report. start_adapter_dir: the PEFT folder of
    an adapter to start from, whose settings the spec takes over (see `start_adapter.adopt`). on_event: called with
    numbered, timed events, one at a time, from any thread. resume: go on from the newest whole checkpoint in
    `output_dir`. cache_dir: by default `output_dir/cache`. Raises InvalidField for a wrong spec, for an output folder
    that holds a training already and `resume` is not set, and where there is nothing to resume; StartAdapterUnsuitable;
    everything later is told by the JobFinished returned.
    """
    job = _job(spec, start_adapter_dir)
    job.dataset_digest = dataset_digest
    if derivation is not None:
        job.derivation.CopyFrom(derivation)
    training = TrainingJob(
        job=job,
        samples=samples,
        comparisons=comparisons,
        models_dir=models_dir,
        cache_dir=cache_dir or output_dir / "cache",
        output_dir=output_dir,
        resume_dir=_checkpoint_in(output_dir, resume=resume),
        start_adapter_dir=start_adapter_dir,
        threads=threads,
        device=device,
    )
    telemetry = CallbackTelemetry(on_event)

    def train() -> Outcome:
        if not samples and not comparisons:
            raise DataInvalid("there is nothing to train on; give at least one clip, or a comparison of two")
        return engine_for(kind_of(job.spec))(training, telemetry, OutputFiles(), stop)

    end = ended(train, job.spec)
    telemetry.emit(job_event_pb2.JobEvent(finished=end))
    return end


def require_data_kind(spec: job_spec_pb2.JobSpec) -> None:
    """Raises InvalidField for what learns from no data set: a language model, and clips that are only played."""
    text = "learns from text, not from a data set"
    elsewhere = {
        "tiny_lm": f"{text}; train it with `tunesmith lm train`, which takes these settings",
        "generate": "plays clips and learns nothing; have a node play them with `tunesmith run submit`",
    }
    kind = kind_of(spec)
    if kind in elsewhere:
        raise InvalidField.of([FieldProblem(f"spec.{kind}", elsewhere[kind])])


def _job(spec: job_spec_pb2.JobSpec, start_adapter_dir: Path | None) -> trainer_pb2.Job:
    """The job with its spec resolved."""
    require_data_kind(spec)
    if start_adapter_dir is None:
        resolved = resolve(spec)
        kind = kind_of(resolved)
        adapter = getattr(getattr(resolved, kind), "adapter", None)
        if adapter is not None and adapter.start_adapter_id:
            what = f"only a control plane knows {adapter.start_adapter_id}; pull it, and give its folder to start from"
            raise InvalidField.of([FieldProblem(f"spec.{kind}.adapter.start_adapter_id", what)])
        return trainer_pb2.Job(spec=resolved, attempt=1)
    resolved = resolve(start_adapter.adopt(spec, start_adapter_dir))
    return trainer_pb2.Job(spec=resolved, attempt=1, start_adapter=start_adapter.described(start_adapter_dir))


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
