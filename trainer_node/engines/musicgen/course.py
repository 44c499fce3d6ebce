"""The course of one training: its progress beside what transformers keeps, and where its events and artefacts go.

The trainers, the callbacks and the end of a training share one Course. What it must remember across an interruption is
`Progress`, plain numbers in the checkpoint, and the best adapter so far, so that each checkpoint can be gone on from
alone, on another machine.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

from torch import Tensor

from trainer_node.checkpoints import CheckpointFolder
from trainer_node.training import Blobs, StopRequested, Telemetry, keep_folder
from tunesmith.v1 import job_event_pb2


@dataclass
class Progress:
    """What a checkpoint carries beside weights, optimiser, schedule and generators.

    loss_sum, logged_step: the running sum of the training loss since the last metric row, and that row's step.
    evaluation_pending: stopped between the last step of an epoch and its evaluation.
    identity: what the training is of; a checkpoint goes on only under the same.
    """

    training_time_s: float = 0.0
    eval_loss: float | None = None
    eval_step: int = 0
    best_loss: float | None = None
    best_step: int = 0
    epochs_without_better: int = 0
    evaluation_pending: bool = False
    stopped_early: bool = False
    loss_sum: float = 0.0
    logged_step: int = 0
    identity: dict[str, str] = field(default_factory=dict)

    FILE = "progress.json"

    @classmethod
    def read(cls, folder: Path) -> Progress:
        """The progress in a checkpoint."""
        return cls(**json.loads((folder / cls.FILE).read_text(encoding="utf-8")))

    def write(self, folder: Path) -> None:
        """Put it into a checkpoint. JSON keeps every bit of a number."""
        (folder / self.FILE).write_text(json.dumps(asdict(self), indent=1), encoding="utf-8")


@dataclass
class Course:
    """Shared by everything that takes part in one training.

    best_adapter: the tensors of the adapter with the lowest validation loss so far, on the CPU; None before the first.
    cancelled: a stop was requested and seen. saved_step: step of the last checkpoint that this training has committed.
    """

    telemetry: Telemetry
    blobs: Blobs
    stop: StopRequested
    checkpoints: CheckpointFolder
    progress: Progress
    best_adapter: dict[str, Tensor] | None = None
    cancelled: bool = False
    saved_step: int = 0
    _since: float = field(default_factory=time.monotonic)

    def training_time_s(self) -> float:
        """Wall time of the training, that before a resume included."""
        return self.progress.training_time_s + time.monotonic() - self._since

    def save_time(self) -> None:
        """Move the time since the last call into the progress."""
        self.progress.training_time_s = self.training_time_s()
        self._since = time.monotonic()

    def emit_metrics(self, step: int, values: Mapping[str, float]) -> None:
        """One metric row."""
        batch = job_event_pb2.MetricBatch(
            names=list(values), steps=[step], times_us=[time.time_ns() // 1000], values=list(values.values())
        )
        self.telemetry.emit(job_event_pb2.JobEvent(metrics=batch))

    def emit_checkpoint(self, folder: Path, *, step: int, epoch: float) -> None:
        """Announce a committed checkpoint, its files kept as blobs first."""
        progress = self.progress
        saved = job_event_pb2.CheckpointSaved(
            step=step, epoch=epoch, best=progress.best_step == step, files=keep_folder(self.blobs, folder)
        )
        if progress.eval_loss is not None and progress.eval_step == step:
            saved.eval_loss = progress.eval_loss
        self.telemetry.emit(job_event_pb2.JobEvent(checkpoint_saved=saved))
