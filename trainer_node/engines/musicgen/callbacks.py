"""When a training logs, evaluates, saves, listens and stops; the same for every method.

The Trainer's own strategies are off: they cannot save by step and by epoch, know patience only in evaluations, and
cannot be cancelled. At the end of an epoch the order is evaluate, save, listen, so that the checkpoint knows its
validation loss and a preview can neither delay nor endanger it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState

from trainer_node.engines.musicgen import adapter_files, processes
from trainer_node.engines.musicgen.course import Course
from tunesmith.v1 import job_spec_pb2

TRAINING_METRICS = ("loss", "learning_rate", "grad_norm")


class Schedule(TrainerCallback):  # type: ignore[misc]  # transformers has no types
    """Decides after each step and each epoch what comes next.

    steps_per_epoch: optimiser steps. evaluates: whether anything is held out.
    """

    def __init__(
        self,
        course: Course,
        *,
        steps_per_epoch: int,
        evaluates: bool,
        log_every_steps: int,
        checkpoints: job_spec_pb2.CheckpointSettings,
        patience_epochs: int,
    ) -> None:
        self.course = course
        self.steps_per_epoch = steps_per_epoch
        self.evaluates = evaluates
        self.log_every_steps = log_every_steps
        self.checkpoints = checkpoints
        self.patience_epochs = patience_epochs

    def on_step_end(self, args: Any, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Log, stop on request, or save by step; at the end of an epoch the save waits for its evaluation."""
        step = state.global_step
        epoch_ends = step % self.steps_per_epoch == 0
        control.should_log = step % self.log_every_steps == 0 or step >= state.max_steps
        if processes.any_of(self.course.stop()):
            self.course.cancelled = True
            self.course.progress.evaluation_pending = epoch_ends and self.evaluates
            control.should_save = control.should_training_stop = True
        elif not epoch_ends:
            control.should_save = self._due_by_step(step)

    def on_epoch_end(self, args: Any, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Evaluate, then save if a checkpoint is due by step or by epoch."""
        if self.course.cancelled:
            return
        every = self.checkpoints.checkpoint_every_epochs
        epoch = state.global_step // self.steps_per_epoch
        control.should_evaluate = self.evaluates
        control.should_save = (every > 0 and epoch % every == 0) or self._due_by_step(state.global_step)

    def on_evaluate(
        self, args: Any, state: TrainerState, control: TrainerControl, metrics: dict[str, float], model: Any, **_: Any
    ) -> None:
        """Remember the best adapter; stop where patience has run out."""
        progress, loss = self.course.progress, metrics["eval_loss"]
        progress.eval_loss, progress.eval_step = loss, state.global_step
        if progress.best_loss is None or loss < progress.best_loss:
            progress.best_loss, progress.best_step = loss, state.global_step
            progress.epochs_without_better = 0
            self.course.best_adapter = adapter_files.tensors_of(model)
        else:
            progress.epochs_without_better += 1
        if 0 < self.patience_epochs <= progress.epochs_without_better and state.global_step < state.max_steps:
            progress.stopped_early = control.should_training_stop = True

    def _due_by_step(self, step: int) -> bool:
        every = self.checkpoints.checkpoint_every_steps
        return every > 0 and step % every == 0


class Reporter(TrainerCallback):  # type: ignore[misc]  # transformers has no types
    """Gives each metric row to telemetry and, as one line, to standard output.

    metrics: names of the method's own, beside the loss; those of validation have `eval_` in front.
    """

    def __init__(self, course: Course, metrics: Sequence[str]) -> None:
        self.course = course
        self.training = (*TRAINING_METRICS, *metrics)
        self.validation = ("eval_loss", *(f"eval_{name}" for name in metrics))

    def on_log(self, args: Any, state: TrainerState, control: TrainerControl, logs: dict[str, float], **_: Any) -> None:
        """A training row, an evaluation, or the Trainer's own summary, which is left out."""
        names = self.training if "loss" in logs else self.validation
        values = {name: float(logs[name]) for name in names if name in logs}
        if values:
            self.course.emit_metrics(state.global_step, values)
            shown = " ".join(f"{name}={value:.6g}" for name, value in values.items())
            print(f"step={state.global_step}/{state.max_steps} epoch={state.epoch or 0:.2f} {shown}", flush=True)
