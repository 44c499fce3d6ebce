"""The loop: transformers.Trainer with our checkpoints, for any method that is a batch and a loss.

The Trainer brings AdamW, the schedule, clipping, accumulation and evaluation; it costs about 3 ms a step.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor
from transformers import Trainer, TrainingArguments

from trainer_node.engines.musicgen.course import Course
from trainer_node.engines.musicgen.devices import Device
from trainer_node.engines.musicgen.family import Batch, Clip
from trainer_node.engines.musicgen.trainer_state import CommittedState
from tunesmith.v1 import job_spec_pb2


class Method(Protocol):
    """A way of training: how clips become a batch, and a batch a loss."""

    @property
    def generators(self) -> Mapping[str, torch.Generator]:
        """Random generators that a checkpoint must keep."""

    def collate(self, clips: Sequence[Clip]) -> Batch:
        """Clips as one batch."""

    def targets(self, batch: Batch) -> Tensor:
        """What a batch counts in the mean over an accumulated step."""

    def loss(self, model: Any, batch: Batch, targets: Tensor | None) -> Tensor:
        """The batch's share of the step's loss; the shares of a step add up. targets: of the whole step."""

    def eval_loss(self, model: Any, batch: Batch) -> Tensor:
        """Mean over the clips of a held-out batch."""


class AdapterTrainer(CommittedState, Trainer):  # type: ignore[misc]  # transformers is not typed for us
    """One loop for all methods of our own."""

    # `loss` divides by the targets of the whole step. transformers would guess, since MusicGen's forward takes any
    # keyword, and guess right only by accident: dividing once more, or not at all, changes the gradient in silence.
    loss_is_scaled_for_ga = True

    def __init__(self, method: Method, *, course: Course, **kwargs: Any) -> None:
        super().__init__(data_collator=method.collate, **kwargs)
        self.method = method
        self.follow(course, method.generators)

    def _get_num_items_in_batch(self, batch_samples: list[Batch], device: torch.device) -> Tensor:
        return torch.stack([self.method.targets(batch) for batch in batch_samples]).sum().to(device)

    def compute_loss(
        self,
        model: Any,
        inputs: Batch,
        return_outputs: bool = False,
        num_items_in_batch: Tensor | None = None,
    ) -> Tensor:
        """The method's loss; never asked for outputs."""
        return self.method.loss(model, inputs, num_items_in_batch)

    def prediction_step(self, model: Any, inputs: Any, *_: Any, **__: Any) -> tuple[Tensor, None, None]:
        """The method's validation loss of one batch."""
        self.require_no_stop()
        with torch.no_grad():
            return self.method.eval_loss(model, self._prepare_inputs(inputs)), None, None


def steps_per_epoch(samples: int, settings: job_spec_pb2.TrainingSettings) -> int:
    """Optimiser steps of an epoch; the last one may be of fewer samples."""
    return math.ceil(math.ceil(samples / settings.batch_size) / settings.gradient_accumulation_steps)


def total_steps(samples: int, settings: job_spec_pb2.TrainingSettings) -> int:
    """Optimiser steps of a training that is not stopped early."""
    return steps_per_epoch(samples, settings) * settings.epochs


def arguments(
    settings: job_spec_pb2.TrainingSettings, *, device: Device, total_steps: int, output_dir: Path
) -> TrainingArguments:
    """The Trainer's settings. Everything that callbacks decide is off."""
    return TrainingArguments(
        output_dir=str(output_dir),
        num_train_epochs=settings.epochs,
        per_device_train_batch_size=settings.batch_size,
        per_device_eval_batch_size=settings.batch_size,
        gradient_accumulation_steps=settings.gradient_accumulation_steps,
        learning_rate=settings.learning_rate,
        lr_scheduler_type="cosine",
        warmup_steps=math.ceil(settings.warmup_ratio * total_steps),
        weight_decay=settings.weight_decay,
        adam_beta2=0.95,  # audiocraft's, with beta1 0.9
        max_grad_norm=settings.max_grad_norm,
        seed=settings.seed,
        data_seed=settings.seed,  # without it the order depends on what drew from torch's generator before
        activation_checkpointing=settings.gradient_checkpointing,
        # Reentrant checkpointing hooks the input embedding, which is T5's, and T5 does not run.
        activation_checkpointing_kwargs={"use_reentrant": False} if settings.gradient_checkpointing else None,
        use_cpu=device.name == "cpu",
        dataloader_pin_memory=device.name != "cpu",
        logging_strategy="no",
        eval_strategy="no",
        save_strategy="no",
        logging_nan_inf_filter=False,
        remove_unused_columns=False,
        label_names=[],
        report_to=[],
        disable_tqdm=True,
        log_level="error",
    )
