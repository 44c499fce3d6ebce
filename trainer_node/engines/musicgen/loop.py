"""The loop: transformers.Trainer with our checkpoints, for any method that is a batch and a loss.

The Trainer brings AdamW, the schedule, clipping, accumulation and evaluation; it costs about 3 ms a step.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor
from transformers import Trainer

from trainer_node.engines.musicgen import processes, shares
from trainer_node.engines.musicgen.course import Course
from trainer_node.engines.musicgen.devices import Device
from trainer_node.engines.musicgen.examples import Example
from trainer_node.engines.musicgen.trainer_state import CommittedState
from tunesmith.v1 import job_spec_pb2

Metrics = Mapping[str, Tensor]  # by name: one value an example, of this process


class Method(Protocol):
    """A way of training: how examples become a batch, and a batch a loss."""

    @property
    def generators(self) -> Mapping[str, torch.Generator]:
        """Random generators that a checkpoint must keep."""

    def collate(self, examples: Sequence[Example]) -> Any:
        """Examples as one batch: a mapping with tensors."""

    def targets(self, batch: Any) -> Tensor:
        """What a batch counts in the mean over an accumulated step: a number, or several where the loss has parts."""

    def loss(self, model: Any, batch: Any, targets: Tensor | None) -> tuple[Tensor, Metrics]:
        """The batch's share of the step's loss, and what else is logged.

        The shares of a step add up, over its batches and over the processes that train together, which may get batches
        of different sizes: so no process may wait for another in here. targets: those of the whole step, or None where
        the batch is the step.
        """

    def evaluate(self, model: Any, batch: Any) -> Metrics:
        """`loss` and what else is logged, of each example of a held-out batch."""


class AdapterTrainer(CommittedState, Trainer):  # type: ignore[misc]  # transformers is not typed for us
    """One loop for all methods. In several processes it comes to the numbers of one with a batch of all of theirs."""

    # `loss` divides by the targets of the whole step. transformers would guess, since MusicGen's forward takes any
    # keyword, and guess right only by accident: dividing once more, or not at all, changes the gradient in silence.
    loss_is_scaled_for_ga = True

    def __init__(self, method: Method, *, course: Course, **kwargs: Any) -> None:
        super().__init__(data_collator=method.collate, **kwargs)
        self.method = method
        self._metrics = {"train": defaultdict(list), "eval": defaultdict(list)}
        self.follow(course, method.generators)

    def get_train_dataloader(self) -> Any:
        """This process's share of the batches, in an order that the seed alone decides."""
        args = self.args
        return shares.training_batches(
            self.train_dataset,
            args.train_batch_size,
            self.method.collate,
            seed=args.seed,
            pin=args.dataloader_pin_memory,
        )

    def get_eval_dataloader(self, eval_dataset: Any = None) -> Any:
        """This process's part of the held-out batches."""
        return shares.held_out_batches(self.eval_dataset, self.args.eval_batch_size, self.method.collate)

    def _get_num_items_in_batch(self, batch_samples: list[Any], device: torch.device) -> Tensor:
        return processes.added(torch.stack([self.method.targets(batch) for batch in batch_samples]).sum(0).to(device))

    def compute_loss(
        self,
        model: Any,
        inputs: Any,
        return_outputs: bool = False,
        num_items_in_batch: Tensor | None = None,
    ) -> Tensor:
        """The method's loss; never asked for outputs."""
        loss, metrics = self.method.loss(model, inputs, num_items_in_batch)
        self._record("train", metrics)
        return loss * processes.count()  # the mean over processes is taken, of gradients as of what is logged

    def prediction_step(self, model: Any, inputs: Any, *_: Any, **__: Any) -> tuple[None, None, None]:
        """Records what the method has to say of one held-out batch."""
        self.require_no_stop()
        with torch.no_grad():
            self._record("eval", self.method.evaluate(model, self._prepare_inputs(inputs)))
        return None, None, None

    def evaluation_loop(self, *args: Any, **kwargs: Any) -> Any:
        """As Trainer's, where each example weighs the same, so that the batch size changes no number.

        Raises LossNotFinite: such a loss would be the best for good, since none is below it.
        """
        self._metrics["eval"].clear()
        output = super().evaluation_loop(*args, **kwargs)
        output.metrics.update({f"eval_{name}": mean for name, mean in self._means("eval").items()})
        self.require_finite(output.metrics["eval_loss"], "eval_loss", step=self.state.global_step)
        return output

    def log(self, logs: dict[str, float], *args: Any, **kwargs: Any) -> None:
        """As Trainer's, with the means of the method's metrics since the last row of training."""
        if "loss" in logs:
            logs = {**logs, **self._means("train")}
        super().log(logs, *args, **kwargs)

    def _record(self, mode: str, metrics: Metrics) -> None:
        for name, values in metrics.items():
            self._metrics[mode][name] += values.detach().double().tolist()

    def _means(self, mode: str) -> dict[str, float]:
        """Over the examples of all processes."""
        everywhere = processes.gathered(dict(self._metrics[mode]))
        self._metrics[mode].clear()
        values: dict[str, list[float]] = defaultdict(list)
        for here in everywhere:
            for name, some in here.items():
                values[name] += some
        return {name: math.fsum(some) / len(some) for name, some in values.items()}


def steps_per_epoch(samples: int, settings: job_spec_pb2.TrainingSettings) -> int:
    """Optimiser steps of an epoch; the last one may be of fewer samples."""
    batches = math.ceil(samples / (settings.batch_size * processes.count()))
    return math.ceil(batches / settings.gradient_accumulation_steps)


def total_steps(samples: int, settings: job_spec_pb2.TrainingSettings) -> int:
    """Optimiser steps of a training that is not stopped early."""
    return steps_per_epoch(samples, settings) * settings.epochs


def arguments(
    settings: job_spec_pb2.TrainingSettings, *, device: Device, total_steps: int, output_dir: Path
) -> dict[str, Any]:
    """The settings of a transformers TrainingArguments. Everything that callbacks decide is off."""
    return {
        "output_dir": str(output_dir),
        "num_train_epochs": settings.epochs,
        "per_device_train_batch_size": settings.batch_size,
        "per_device_eval_batch_size": settings.batch_size,
        "gradient_accumulation_steps": settings.gradient_accumulation_steps,
        "learning_rate": settings.learning_rate,
        "lr_scheduler_type": "cosine",
        # The first step of a warm-up has a rate of 0, so a training of one step has none.
        "warmup_steps": min(math.ceil(settings.warmup_ratio * total_steps), total_steps - 1),
        "weight_decay": settings.weight_decay,
        "adam_beta2": 0.95,  # audiocraft's, with beta1 0.9
        "max_grad_norm": settings.max_grad_norm,
        "seed": settings.seed,
        "activation_checkpointing": settings.gradient_checkpointing,
        # Reentrant checkpointing hooks the input embedding, which is T5's, and T5 does not run.
        "activation_checkpointing_kwargs": {"use_reentrant": False} if settings.gradient_checkpointing else None,
        "use_cpu": device.name == "cpu",
        "dataloader_pin_memory": device.name != "cpu",
        "ddp_find_unused_parameters": False,  # every matrix takes part in every step
        "ddp_broadcast_buffers": False,  # none of them changes
        "logging_strategy": "no",
        "eval_strategy": "no",
        "save_strategy": "no",
        "logging_nan_inf_filter": False,
        "remove_unused_columns": False,
        "label_names": [],
        "report_to": [],
        "disable_tqdm": True,
        "log_level": "error",
    }
