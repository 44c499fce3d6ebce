"""A bench for trainings: tiny base models, synthesised clips, and ports that remember what they were given."""

from __future__ import annotations

import hashlib
import shutil
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
from google.protobuf import json_format
from numpy.typing import NDArray

from trainer_node import checkpoints
from trainer_node.engines.registry import engine_for
from trainer_node.start_adapter import described
from trainer_node.training import Outcome, TrainingJob, TrainingSample
from tunesmith import spec as job_spec
from tunesmith.v1 import blob_pb2, job_event_pb2, job_spec_pb2, trainer_pb2

PROMPTS = ("low sine drone", "high bright square wave arpeggio", "calm ambient pad")

# Short trainings whose loss visibly falls; every test says what it changes.
SETTINGS: dict[str, dict[str, Any]] = {
    "adapter": {"base_model": "tiny", "lora_r": 8, "lora_alpha": 16},
    "training": {"epochs": 2, "batch_size": 4, "learning_rate": 0.005, "log_every_steps": 1},
    "validation": {"validation_fraction": 0.2},
}


# On noise these overfit within a few epochs: the validation loss falls, then rises.
OVERFITTING: dict[str, Any] = {
    "adapter": {"lora_targets": "LORA_TARGETS_WIDE"},
    "training": {"epochs": 12, "learning_rate": 0.03},
    "validation": {"validation_fraction": 0.3, "early_stopping_patience_epochs": 2},
}


class Telemetry:
    """Keeps events in order, numbered and timed."""

    def __init__(self) -> None:
        self.events: list[job_event_pb2.JobEvent] = []
        self._one_at_a_time = threading.Lock()

    def emit(self, event: job_event_pb2.JobEvent) -> None:
        with self._one_at_a_time:
            event.seq = len(self.events) + 1
            event.time.FromNanoseconds(time.time_ns())
            self.events.append(event)

    def last_step(self, name: str = "loss") -> int:
        """Step of the last row with this metric; 0 for none."""
        return max((step for step, row in metric_rows(self.events) if name in row), default=0)


class Blobs:
    """A folder of files named by digest."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)

    def keep(self, path: Path, name: str) -> blob_pb2.File:
        content = path.read_bytes()
        digest = hashlib.sha256(content).hexdigest()
        (self.folder / digest).write_bytes(content)
        return blob_pb2.File(path=name, digest=digest, size_bytes=len(content))

    def lay_out(self, files: Sequence[blob_pb2.File], folder: Path) -> Path:
        """The files as a folder again, as a node does it before a resume."""
        for file in files:
            (folder / file.path).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(self.folder / file.digest, folder / file.path)
        return folder


def metric_rows(events: Sequence[job_event_pb2.JobEvent]) -> list[tuple[int, dict[str, float]]]:
    """(step, values by name) of every metric row."""
    rows = []
    for event in events:
        width = len(event.metrics.names)
        for i, step in enumerate(event.metrics.steps):
            values = event.metrics.values[i * width : (i + 1) * width]
            rows.append((step, dict(zip(event.metrics.names, values, strict=True))))
    return rows


@dataclass
class Training:
    """What came of one call of an engine."""

    outcome: Outcome
    telemetry: Telemetry
    blobs: Blobs
    output_dir: Path

    def result(self) -> job_event_pb2.JobSucceeded:
        """The outcome of a training that succeeded."""
        assert isinstance(self.outcome, job_event_pb2.JobSucceeded)
        return self.outcome

    def rows(self) -> list[tuple[int, dict[str, float]]]:
        """Every metric row, in order."""
        return metric_rows(self.telemetry.events)

    def metric(self, name: str) -> list[float]:
        """One metric's values, in order."""
        return [row[name] for _, row in self.rows() if name in row]

    def checkpoints(self) -> list[job_event_pb2.CheckpointSaved]:
        """Every CheckpointSaved."""
        return [event.checkpoint_saved for event in self.telemetry.events if event.HasField("checkpoint_saved")]

    def previews(self) -> list[job_event_pb2.PreviewSaved]:
        """Every PreviewSaved."""
        return [event.preview_saved for event in self.telemetry.events if event.HasField("preview_saved")]

    def report(self) -> job_event_pb2.TrainingReport:
        """report.json."""
        text = (self.output_dir / "report.json").read_text(encoding="utf-8")
        return json_format.Parse(text, job_event_pb2.TrainingReport())

    def newest_checkpoint(self) -> Path:
        """The folder of the newest whole checkpoint."""
        newest = checkpoints.latest(self.output_dir / "checkpoints")
        assert newest is not None
        return newest

    def adapter(self) -> bytes:
        """The weights that the training left."""
        return (self.output_dir / "adapter" / "adapter_model.safetensors").read_bytes()


@dataclass
class Studio:
    """Runs trainings below one folder; `models` and the feature cache are shared by all tests."""

    folder: Path
    models_dir: Path
    cache_dir: Path
    trainings: int = 0
    telemetry: Telemetry = field(default_factory=Telemetry)

    def samples(
        self, count: int, *, length_s: float | Sequence[float] = 0.5, rate_hz: int = 16000
    ) -> list[TrainingSample]:
        """Tones of rising pitch, each with one of PROMPTS."""
        lengths = [length_s] * count if isinstance(length_s, (int, float)) else list(length_s)
        made = []
        for i, seconds in enumerate(lengths):
            time_s = np.arange(round(seconds * rate_hz)) / rate_hz
            made.append(self._sample(i, 0.5 * np.sin(2 * np.pi * (110 + 40 * i) * time_s), rate_hz))
        return made

    def noises(self, count: int) -> list[TrainingSample]:
        """Half-second clips that have nothing in common: what is learnt from some is of no use for the others."""
        drawn = np.random.default_rng(0)
        time_n = np.arange(8000)
        return [
            self._sample(i, drawn.uniform(-0.8, 0.8, 8000) * np.sin(time_n * (0.1 + 0.05 * i)), 16000)
            for i in range(count)
        ]

    def _sample(self, i: int, sound: NDArray[np.float64], rate_hz: int) -> TrainingSample:
        path = self.folder / f"clip-{i}.wav"
        soundfile.write(path, sound, rate_hz)
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        return TrainingSample(prompt=PROMPTS[i % 3], audio_path=path, audio_digest=digest, rating=4)

    def train(
        self,
        samples: Sequence[TrainingSample],
        *,
        stop: Callable[[Telemetry], bool] = lambda _: False,
        resume_dir: Path | None = None,
        output_dir: Path | None = None,
        start: Path | None = None,
        **overrides: Any,
    ) -> Training:
        """Run the supervised engine with SETTINGS and these changes, such as training={"epochs": 4}.

        start: the PEFT folder of the adapter to start from.
        """
        self.trainings += 1
        output_dir = output_dir or self.folder / f"training-{self.trainings}"
        blobs = Blobs(self.folder / "blobs")
        self.telemetry = telemetry = Telemetry()
        job = TrainingJob(
            job=trainer_pb2.Job(spec=spec(**overrides), attempt=1, start_adapter=described(start) if start else None),
            samples=samples,
            models_dir=self.models_dir,
            cache_dir=self.cache_dir,
            output_dir=output_dir,
            resume_dir=resume_dir,
            start_adapter_dir=start,
            threads=1,
            device="cpu",
        )
        outcome = engine_for("supervised")(job, telemetry, blobs, lambda: stop(telemetry))
        return Training(outcome, telemetry, blobs, output_dir)

    def resume(self, interrupted: Training, samples: Sequence[TrainingSample], **overrides: Any) -> Training:
        """Go on from the last checkpoint that was announced, laid out from its blobs in a place of its own."""
        self.trainings += 1
        files = interrupted.checkpoints()[-1].files
        folder = interrupted.blobs.lay_out(files, self.folder / f"resume-{self.trainings}")
        return self.train(samples, resume_dir=folder, **overrides)


def spec(**overrides: Any) -> job_spec_pb2.JobSpec:
    """A resolved supervised spec: SETTINGS with these changes."""
    merged: dict[str, Any] = {group: dict(values) for group, values in SETTINGS.items()}
    for name, value in overrides.items():
        merged[name] = {**merged.get(name, {}), **value} if isinstance(value, Mapping) else value
    return job_spec.resolve(job_spec.parse({"supervised": merged}, job_spec_pb2.JobSpec()))
