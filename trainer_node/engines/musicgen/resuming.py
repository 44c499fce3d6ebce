"""Where a training begins: at nothing, or at a checkpoint that is whole and belongs to the same training."""

from __future__ import annotations

import json

from trainer_node import checkpoints
from trainer_node.engines.musicgen.course import Course, Progress
from trainer_node.errors import BaseModelUnavailable, DataInvalid
from trainer_node.training import Blobs, StopRequested, Telemetry, TrainingJob
from tunesmith.errors import FieldProblem, InvalidField


def open_course(job: TrainingJob, telemetry: Telemetry, blobs: Blobs, stop: StopRequested, *, keep: int) -> Course:
    """The course, from the start or from a checkpoint that is seen to be whole."""
    folder = job.output_dir / "checkpoints"
    if job.resume_dir:
        checkpoints.verify(job.resume_dir)
        progress = Progress.read(job.resume_dir)
        checkpoints.discard_after(folder, checkpoints.step_of(job.resume_dir))
    else:
        progress = Progress()
        if checkpoints.checkpoints(folder):
            problem = "already holds the checkpoints of a training; resume that one, or choose another folder"
            raise InvalidField.of([FieldProblem("output", problem)])
    committed = checkpoints.CheckpointFolder(folder, keep=keep)
    return Course(telemetry=telemetry, blobs=blobs, stop=stop, checkpoints=committed, progress=progress)


def require_same(before: dict[str, str], now: dict[str, str]) -> None:
    """Raises an error naming what the checkpoint was trained with and this training is not."""
    if before["settings"] != now["settings"]:
        old, new = json.loads(before["settings"]), json.loads(now["settings"])
        changed = [
            FieldProblem(
                f"{group}.{name}", f"the checkpoint was trained with {old[group].get(name)!r}; resume with that"
            )
            for group in new
            if isinstance(new[group], dict)
            for name in new[group]
            if old.get(group, {}).get(name) != new[group][name]
        ]
        raise InvalidField.of(changed or [FieldProblem("spec", "the checkpoint was trained with other settings")])
    if before["data"] != now["data"]:
        raise DataInvalid("the checkpoint was trained on another data set; resume with that, or start a new run")
    if before["base_model"] != now["base_model"]:
        raise BaseModelUnavailable(
            "the base model is not the one that the checkpoint was trained on; put that one back, or start a new run"
        )
