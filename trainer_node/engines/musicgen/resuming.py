"""Where a training begins: at nothing, or at a checkpoint that is whole and belongs to the same training."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from trainer_node import checkpoints
from trainer_node.engines.musicgen import processes
from trainer_node.engines.musicgen.course import Course, Progress
from trainer_node.errors import BaseModelUnavailable, DataInvalid, StartAdapterUnsuitable
from trainer_node.training import Blobs, StopRequested, Telemetry, TrainingJob
from tunesmith.errors import FieldProblem, InvalidField


def open_course(job: TrainingJob, telemetry: Telemetry, blobs: Blobs, stop: StopRequested, *, keep: int) -> Course:
    """The course, from the start or from a checkpoint that is seen to be whole."""
    folder = job.output_dir / "checkpoints"
    if job.resume_dir:
        checkpoints.verify(job.resume_dir)
        _require_processes(job.resume_dir)
        progress = Progress.read(processes.own(job.resume_dir))
        if processes.is_first():
            checkpoints.discard_after(folder, checkpoints.step_of(job.resume_dir))
    else:
        progress = Progress()
        if checkpoints.checkpoints(folder):
            problem = "already holds the checkpoints of a training; resume that one, or choose another folder"
            raise InvalidField.of([FieldProblem("output", problem)])
    committed = checkpoints.CheckpointFolder(folder, keep=keep)
    return Course(telemetry=telemetry, blobs=blobs, stop=stop, checkpoints=committed, progress=progress)


def _require_processes(checkpoint: Path) -> None:
    """A batch is shared by all processes, so their number decides what a step is."""
    before = 1 + sum(1 for _ in checkpoint.glob("rank-*"))
    if before != processes.count():
        how = f"by torchrun --nproc-per-node {before}" if before > 1 else "without torchrun"
        problem = f"{processes.count()}, and the checkpoint was trained by {before}; resume {how}"
        raise InvalidField.of([FieldProblem("processes", problem)])


def require_same(before: dict[str, str], now: dict[str, str]) -> None:
    """Raises an error naming what the checkpoint was trained with and this training is not."""
    kind = before.get("kind", now["kind"])
    if kind != now["kind"]:
        problem = f"the checkpoint is of a {kind} training; resume it as such, or start a new run"
        raise InvalidField.of([FieldProblem("kind", problem)])
    if before["settings"] != now["settings"]:
        old, new = (_by_path(json.loads(identity["settings"])) for identity in (before, now))
        changed = sorted(path for path in {*old, *new} if old.get(path) != new.get(path))
        raise InvalidField.of([FieldProblem(path, _trained_with(old.get(path))) for path in changed])
    if before.get("start_adapter", "") != now["start_adapter"]:
        raise StartAdapterUnsuitable(
            "the checkpoint's training started from another adapter; resume with that, or start a new run"
        )
    if before["data"] != now["data"]:
        raise DataInvalid("the checkpoint was trained on another data set; resume with that, or start a new run")
    if before["base_model"] != now["base_model"]:
        raise BaseModelUnavailable(
            "the base model is not the one that the checkpoint was trained on; put that one back, or start a new run"
        )


def _by_path(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings by such names as `training.learning_rate`; those of the kind alone stand in no group."""
    paths: dict[str, Any] = {}
    for name, value in settings.items():
        if isinstance(value, dict):
            paths |= {f"{name}.{inner}": one for inner, one in value.items()}
        else:
            paths[name] = value
    return paths


def _trained_with(value: object) -> str:
    if value is None:
        return "the checkpoint was trained without it; resume without it, too"
    return f"the checkpoint was trained with {value if isinstance(value, str) else json.dumps(value)}; resume with that"
