"""The training process of a job with an engine of seconds: the real `job_process.run`, run with `python -m`.

The engine does what the job's base model is called, or its kind where it has none: see the functions below.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from trainer_node import job_process
from trainer_node.job_folder import JobFolder
from trainer_node.training import Blobs, Outcome, StopRequested, Telemetry, Train, TrainingJob
from tunesmith.spec import kind_of
from tunesmith.v1 import job_event_pb2

Event = job_event_pb2.JobEvent


def metric(step: int) -> Event:
    batch = job_event_pb2.MetricBatch(
        names=["loss"], steps=[step], times_us=[time.time_ns() // 1000], values=[1 / step]
    )
    return Event(metrics=batch)


def checkpoint(job: TrainingJob, telemetry: Telemetry, blobs: Blobs, step: int) -> None:
    folder = job.output_dir / "checkpoints" / f"step-{step}"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "adapter.safetensors").write_bytes(f"weights of step {step}".encode())
    file = blobs.keep(folder / "adapter.safetensors", "adapter.safetensors")
    telemetry.emit(Event(checkpoint_saved=job_event_pb2.CheckpointSaved(step=step, files=[file])))


def quick(job: TrainingJob, telemetry: Telemetry, blobs: Blobs, stop: StopRequested) -> Outcome:
    """Trains `epochs` steps and succeeds; tells about its surroundings on stdout."""
    telemetry.emit(Event(started=job_event_pb2.JobStarted(total_steps=job.job.spec.supervised.training.epochs)))
    print(f"grpc={'grpc' in sys.modules}")
    print(f"argv={sys.argv[1:]}")
    print(f"environment={sorted(os.environ)}")
    print(f"waiting={os.environ.get('OMP_WAIT_POLICY')},{os.environ.get('GOMP_SPINCOUNT')}")
    print(f"samples={[(s.prompt, s.audio_path.read_bytes()) for s in job.samples]}")
    for comparison in job.comparisons:
        print(f"compared={[(comparison.prompt, clip.audio_path.read_bytes(), clip.rank) for clip in comparison.clips]}")
    if job.start_adapter_dir:
        print(f"start_adapter={sorted((path.name, path.read_bytes()) for path in job.start_adapter_dir.iterdir())}")
    resumed = (job.resume_dir / "adapter.safetensors").read_text() if job.resume_dir else ""
    print(f"resumed={resumed!r}")
    for step in range(1, job.job.spec.supervised.training.epochs + 1):
        telemetry.emit(metric(step))
    checkpoint(job, telemetry, blobs, 1)
    job.output_dir.joinpath("config.json").write_text("{}")
    config = blobs.keep(job.output_dir / "config.json", "training_config.json")
    sys.stderr.write("no newline at the end")
    return job_event_pb2.JobSucceeded(training_config=config)


def steady(job: TrainingJob, telemetry: Telemetry, blobs: Blobs, stop: StopRequested) -> Outcome:
    """Trains until it is asked to stop, then leaves a checkpoint. Prints a numbered line a step."""
    step = 0
    while not stop():
        step += 1
        telemetry.emit(metric(step))
        print(f"line {step}")
        time.sleep(0.005)
    checkpoint(job, telemetry, blobs, step)
    return job_event_pb2.JobCancelled(checkpoint_step=step)


def stubborn(job: TrainingJob, telemetry: Telemetry, blobs: Blobs, stop: StopRequested) -> Outcome:
    """Never stops, and has a process of its own that does not either."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    helper = (
        "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('up', flush=True); time.sleep(600)"
    )
    with subprocess.Popen([sys.executable, "-c", helper], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        checkpoint(job, telemetry, blobs, 7)
        print(f"helper {process.pid}")
        while True:
            time.sleep(1)


def flooding(job: TrainingJob, telemetry: Telemetry, blobs: Blobs, stop: StopRequested) -> Outcome:
    """Prints 38 MB between its steps, and a last line."""
    for step in range(1, 11):
        telemetry.emit(metric(step))
        for _ in range(4):
            os.write(1, b"a warning that comes with every step of a loop\n" * 20_000)
    print("the last line")
    return job_event_pb2.JobSucceeded()


def forgetful(job: TrainingJob, telemetry: Telemetry, blobs: Blobs, stop: StopRequested) -> Outcome:
    """Leaves a process behind that holds what it inherited, and succeeds."""
    process = subprocess.Popen(["sleep", "600"])
    print(f"helper {process.pid}")
    return job_event_pb2.JobSucceeded()


def raising(job: TrainingJob, telemetry: Telemetry, blobs: Blobs, stop: StopRequested) -> Outcome:
    """Has a bug."""
    print("about to fail")
    raise ValueError("shapes (2, 3)\nand (4, 5) do not fit")


def tiny_lm(job: TrainingJob, telemetry: Telemetry, blobs: Blobs, stop: StopRequested) -> Outcome:
    """Reads its corpus and succeeds; tells what it found."""
    print(f"folders={len(job.corpus_paths)}")
    for folder in job.corpus_paths:
        texts = sorted(path for path in folder.rglob("*") if path.is_file())
        print(f"corpus={[(path.relative_to(folder).as_posix(), path.read_bytes()) for path in texts]}")
    return job_event_pb2.JobSucceeded()


def full(job: TrainingJob, telemetry: Telemetry, blobs: Blobs, stop: StopRequested) -> Outcome:
    """Finds no room."""
    raise OSError(28, "No space left on device", str(job.output_dir / "x"))


def vanishing(job: TrainingJob, telemetry: Telemetry, blobs: Blobs, stop: StopRequested) -> Outcome:
    """Leaves without a word."""
    sys.stderr.write("last words")
    sys.stderr.flush()
    os._exit(3)


def slow_import(kind: str) -> Train:
    """An engine whose import takes for ever."""
    print("importing")
    time.sleep(600)
    raise AssertionError("nobody waited so long")


ENGINES: dict[str, Callable[[TrainingJob, Telemetry, Blobs, StopRequested], Outcome]] = {
    engine.__name__: engine
    for engine in (quick, steady, stubborn, flooding, forgetful, raising, full, vanishing, tiny_lm)
}


def main() -> None:
    folder = JobFolder(Path(sys.argv[1]))
    spec = folder.job().spec
    name = spec.supervised.adapter.base_model or kind_of(spec)
    code = job_process.run(folder, slow_import if name == "slow_import" else lambda kind: ENGINES[name])
    os._exit(code)


if __name__ == "__main__":
    main()
