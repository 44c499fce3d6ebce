"""Checkpoints of a transformers.Trainer: atomic, complete to the last bit, and without a pickle.

`CommittedState` is put in front of a Trainer (ours, or TRL's for preference training). The Trainer's own checkpoints
are neither atomic nor free of pickles, and lack the running loss, so a curve would have a dent after each resume.
On a CPU, losses, gradient norms and weights of an interrupted and resumed training are those of an uninterrupted one.

Where several processes train together, the first one writes; what each has of its own lies in a folder by its rank.
"""

from __future__ import annotations

import json
import math
import tempfile
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from transformers import PrinterCallback, TrainerCallback, TrainerControl, TrainerState

from trainer_node.engines import tensor_files
from trainer_node.engines.musicgen import adapter_files, processes, randomness
from trainer_node.engines.musicgen.course import Course
from trainer_node.engines.musicgen.features import Stopped
from trainer_node.errors import CheckpointCorrupt, LossNotFinite

BEST_ADAPTER = "best_adapter.safetensors"
OPTIMIZER, OPTIMIZER_GROUPS = "optimizer.safetensors", "optimizer.json"
SCHEDULER = "scheduler.json"
STATE = "trainer_state.json"  # where Trainer.train looks for it
METRICS = "metrics.json"  # those of the steps since the last metric row

if TYPE_CHECKING:
    from transformers import Trainer as _Trainer
else:
    _Trainer = object


class CommittedState(_Trainer):  # type: ignore[misc]  # transformers has no types
    """Mixin, to be put before the Trainer; `follow` must be called before `train`."""

    course: Course
    generators: Mapping[str, torch.Generator]
    _metrics: dict[str, defaultdict[str, list[float]]]  # `train` and `eval`, by name; means of them go into the log
    _resumed_from: str | None = None

    def follow(self, course: Course, generators: Mapping[str, torch.Generator]) -> None:
        """Take part in a course. generators: saved and restored beside the process's own."""
        self.course = course
        self.generators = generators
        self.remove_callback(PrinterCallback)
        self.add_callback(Resumption(self))

    def trainable_parameters(self) -> int:
        """How many numbers are trained."""
        return sum(part.numel() for part in self.model.parameters() if part.requires_grad)

    def checkpoint_bytes(self) -> int:
        """About the size of a checkpoint: the adapter, the best adapter, the optimiser's two moments, and the rest."""
        return 4 * 4 * self.trainable_parameters() + (1 << 20)

    def saved_now(self) -> int:
        """The step reached, with a checkpoint committed there if there was none. For the way out."""
        if self.course.saved_step != self.state.global_step:
            self._save_checkpoint(self.model, trial=None)
        return self.course.saved_step

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        step = self.state.global_step
        self.course.save_time()
        self.course.progress.loss_sum = float(self._tr_loss)
        self.course.progress.logged_step = self._globalstep_last_logged
        others = processes.gathered(None if processes.is_first() else self._own_files())
        self.course.saved_step = step
        if not processes.is_first():
            return
        with self.course.checkpoints.commit(step) as folder:
            self._write_state(folder)
            for rank, files in enumerate(others):
                _write_files(processes.own(folder, rank), files or {})
        self.course.emit_checkpoint(self.course.checkpoints.path(step), step=step, epoch=self.state.epoch)
        self.course.checkpoints.prune(best_step=self.course.progress.best_step or None)

    def _write_state(self, folder: Path) -> None:
        adapter_files.write(folder, self.model, adapter_files.tensors_of(self.model))
        best = self.course.best_adapter
        if best is not None and self.course.progress.best_step != self.state.global_step:
            tensor_files.write(folder / BEST_ADAPTER, best)
        optimizer = self.optimizer.state_dict()
        moments = {
            f"{parameter}.{name}": value
            for parameter, values in optimizer["state"].items()
            for name, value in values.items()
        }
        tensor_files.write(folder / OPTIMIZER, moments)
        _write_json(folder / OPTIMIZER_GROUPS, optimizer["param_groups"])
        _write_json(folder / SCHEDULER, self.lr_scheduler.state_dict())
        self.state.save_to_json(str(folder / STATE))
        self._write_own(folder)

    def _write_own(self, folder: Path) -> None:
        """What each process has for itself: generators, what it has counted since the last metric row, its progress."""
        randomness.save(folder, self.generators)
        _write_json(folder / METRICS, self._metrics["train"])
        self.course.progress.write(folder)

    def _own_files(self) -> dict[str, bytes]:
        with tempfile.TemporaryDirectory() as folder:
            self._write_own(Path(folder))
            return {path.name: path.read_bytes() for path in Path(folder).iterdir()}

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        folder = Path(resume_from_checkpoint)
        self._resumed_from = resume_from_checkpoint
        tensors = adapter_files.read(folder)
        if not adapter_files.put(self.model, tensors):
            raise CheckpointCorrupt("the adapter in the checkpoint has other layers or another rank; start a new run")
        if (folder / BEST_ADAPTER).is_file():
            self.course.best_adapter = tensor_files.read(folder / BEST_ADAPTER)
        elif self.course.progress.best_step:
            self.course.best_adapter = tensors

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        if checkpoint is None:
            return
        folder = Path(checkpoint)
        state: dict[int, dict[str, Tensor]] = {}
        for key, value in tensor_files.read(folder / OPTIMIZER).items():
            parameter, _, name = key.partition(".")
            state.setdefault(int(parameter), {})[name] = value
        groups = [
            {name: tuple(value) if name == "betas" else value for name, value in group.items()}
            for group in json.loads((folder / OPTIMIZER_GROUPS).read_text(encoding="utf-8"))
        ]
        self.optimizer.load_state_dict({"state": state, "param_groups": groups})
        self.lr_scheduler.load_state_dict(json.loads((folder / SCHEDULER).read_text(encoding="utf-8")))

    def _load_rng_state(self, checkpoint: str | None) -> None:
        if checkpoint is not None:
            randomness.load(processes.own(Path(checkpoint)), self.generators)

    def _load_scaler(self, checkpoint: str | None) -> None:
        """There is none: nothing here trains in fp16."""

    def go_on(self) -> None:
        """Right before the first step: take the running loss and metrics up again, make up for a cut evaluation.

        If that is interrupted again, the checkpoint that follows needs the generators, which the Trainer sets later.
        """
        self._tr_loss += self.course.progress.loss_sum
        self._globalstep_last_logged = self.course.progress.logged_step
        if self._resumed_from and (metrics := processes.own(Path(self._resumed_from)) / METRICS).is_file():
            self._metrics["train"].update(json.loads(metrics.read_text(encoding="utf-8")))
        if self.course.progress.evaluation_pending:
            self._load_rng_state(self._resumed_from)
            self.evaluate()

    def _run_epoch(self, *args: Any, **kwargs: Any) -> None:
        """As Trainer's, unless it is over: `go_on` was asked to stop, or patience had run out before the resume."""
        if self.course.cancelled or self.course.progress.stopped_early:
            self.control.should_training_stop = True
        else:
            super()._run_epoch(*args, **kwargs)

    def evaluate(self, *args: Any, **kwargs: Any) -> dict[str, float]:
        """As Trainer's, leaving the training's randomness alone. Stopped in the middle, it is left for the resume."""
        self.course.progress.evaluation_pending = True
        try:
            with randomness.untouched_randomness():
                metrics: dict[str, float] = super().evaluate(*args, **kwargs)
        except Stopped:
            self.course.cancelled = True
            self.control.should_training_stop = True
            self.control.should_save = True
            return {}
        self.course.progress.evaluation_pending = False
        return metrics

    def require_no_stop(self) -> None:
        """Raises Stopped, which ends an evaluation, if a stop was requested. Several processes agree after a step."""
        if processes.count() == 1 and self.course.stop():
            raise Stopped

    def training_step(self, *args: Any, **kwargs: Any) -> Tensor:
        """As Trainer's; raises LossNotFinite before such a loss can reach the weights."""
        loss: Tensor = super().training_step(*args, **kwargs)
        self.require_finite(float(loss), "loss", step=self.state.global_step + 1)
        return loss

    def _clip_grad_norm(self, model: Any) -> Any:
        norm = super()._clip_grad_norm(model)
        self.require_finite(float(norm), "grad_norm", step=self.state.global_step + 1)
        return norm

    def require_finite(self, value: float, name: str, *, step: int) -> None:
        """Raises LossNotFinite, the value logged, where it is no number or infinite."""
        value = float(processes.added(torch.tensor(value)))  # so that all end, where it is not so in one process
        if math.isfinite(value):
            return
        self.course.emit_metrics(step, {name: value})
        rate = self.args.learning_rate
        raise LossNotFinite(
            f"the {name} is {value} at step {step}; reduce learning_rate from {rate:g} to {rate / 10:g}, or look for "
            "unusual clips in the data set",
            step=step,
        )


def _write_json(path: Path, value: object) -> None:
    path.write_text(json.dumps(value), encoding="utf-8")


def _write_files(folder: Path, files: Mapping[str, bytes]) -> None:
    folder.mkdir(exist_ok=True)
    for name, content in files.items():
        (folder / name).write_bytes(content)


class Resumption(TrainerCallback):  # type: ignore[misc]  # transformers has no types
    """Calls the trainer back when everything is loaded and its running loss was set to zero."""

    def __init__(self, trainer: CommittedState) -> None:
        self.trainer = trainer

    def on_train_begin(self, args: Any, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Go on where the checkpoint left off."""
        self.trainer.go_on()
