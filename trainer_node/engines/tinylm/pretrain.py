"""Pretraining: the whole loop of a language model, to be read from top to bottom.

Batch, forward, loss, backward, clip, step, log, evaluate, sample, save, stop. The same text, settings, precision and
number of shards give the same weights to the last bit, whether it was interrupted or not.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter

import torch
from torch import Tensor, nn

from trainer_node import preflight
from trainer_node.checkpoints import CheckpointFolder, discard_after
from trainer_node.engines import memory
from trainer_node.engines.tinylm import beginning, speed
from trainer_node.engines.tinylm.evaluation import mean_loss
from trainer_node.engines.tinylm.model import Drop, TinyTransformer
from trainer_node.engines.tinylm.ports import Ports, Pretrained, Text
from trainer_node.engines.tinylm.progress import EpochSummary, Progress, State
from trainer_node.engines.tinylm.settings import ModelSettings, PretrainSettings
from trainer_node.engines.tinylm.windows import Windows, as_tensor
from trainer_node.errors import LossNotFinite
from trainer_node.memory_limit import smaller_text_step
from trainer_node.stop_signal import Stopped


def pretrain(
    text: Text,
    shape: ModelSettings,
    settings: PretrainSettings,
    checkpoints: CheckpointFolder,
    *,
    resume: Path | None = None,
    ports: Ports | None = None,
) -> Pretrained:
    """Train a model from nothing, or on from the checkpoint `resume`, until done or asked to stop.

    Raises DataInvalid, InvalidField, CheckpointCorrupt, LossNotFinite, OutOfMemory or DiskFull, and Stopped where it
    was asked to stop before its first step; the checkpoints that were committed before stay.
    """
    ports = ports or Ports()
    smaller = smaller_text_step(settings.batch_size, shape.max_seq_length)
    with (
        speed.one_thread_each(),
        memory.out_of_memory_names(smaller),
        preflight.disk_full_says_what_to_free(checkpoints.folder),
    ):
        training = as_tensor(text.training, vocab_size=shape.vocab_size, what="training")
        validation = as_tensor(text.validation, vocab_size=shape.vocab_size, what="validation")
        windows = Windows(training, seq=shape.max_seq_length, batch_size=settings.batch_size, seed=settings.seed)
        if resume:
            state = beginning.state_of(resume, text, windows, shape, settings, ports)
            discard_after(checkpoints.folder, state.progress.step)
        else:
            state = beginning.first_state(text, windows, shape, settings, gradients, ports)
        arithmetic = speed.Arithmetic(state.progress.bf16, state.progress.shards)
        with speed.Sharded(state.model, arithmetic, gradients, seed=settings.seed) as sharded:
            course = Course(state, sharded, windows, validation, settings, checkpoints, ports)
            finished = train_unless_stopped(course)
    best = state.best if state.best is not None else state.model.state_dict()
    return Pretrained(model=state.model, best=best, progress=state.progress, finished=finished)


def gradients(
    model: TinyTransformer, inputs_BT: Tensor, targets_BT: Tensor, drop: Drop, tokens: int
) -> tuple[Tensor, Sequence[Tensor]]:
    """Forward, loss and backward of a batch, or of a shard of one that has `tokens` targets in all.

    Returns the loss, a scalar in nats a token of the whole batch, and the gradient of each of the model's parameters.
    """
    hidden_BTD = model.hidden(inputs_BT, drop)  # forward
    loss = model.head.loss(hidden_BTD.flatten(0, 1), targets_BT.flatten(), tokens=tokens)  # −log p of what came next
    return loss.detach(), torch.autograd.grad(loss, list(model.parameters()))  # backward


def train_unless_stopped(course: Course) -> bool:
    """Train. False: it was asked to stop, and a checkpoint is committed. Raises Stopped where no step was taken."""
    try:
        train(course)
    except Stopped:
        if course.state.progress.step == 0:
            raise
        if course.saved_step != course.state.progress.step:
            course.save()
        return False
    return True


@dataclass
class Course:
    """What the loop works on. validation: tokens held out, possibly none. saved_step: of its last checkpoint."""

    state: State
    sharded: speed.Sharded
    windows: Windows
    validation: Tensor
    settings: PretrainSettings
    checkpoints: CheckpointFolder
    ports: Ports
    saved_step: int | None = None

    @property
    def total_steps(self) -> int:
        """Of a training that is not stopped early."""
        return self.settings.epochs * self.windows.steps_per_epoch

    @property
    def ends(self) -> bool:
        """Whether the epoch that was finished is the last."""
        return self.state.progress.epoch == self.settings.epochs or self.state.progress.stopped_early

    def save(self) -> None:
        """Commit a checkpoint and say so."""
        folder = self.state.commit(self.checkpoints)
        self.saved_step = self.state.progress.step
        self.ports.saved(folder, self.state.progress)


def train(course: Course) -> None:
    """The loop. Raises Stopped where it is asked to stop: after a step, in an evaluation, or while texts are sampled.

    Wherever that is, a checkpoint of what `course` holds then goes on without a difference.
    """
    model, optimizer, progress = course.state.model, course.state.optimizer, course.state.progress
    windows, settings, ports = course.windows, course.settings, course.ports
    rows = MetricRows(progress, ports, every=settings.log_every_steps)
    if progress.step == 0 and len(course.validation) > 1:
        progress.untrained_loss = held_out_loss(course)  # about ln V, before any step
        ports.metrics(0, {"eval_loss": progress.untrained_loss})

    if progress.position == 0 < progress.epoch and samples_are_due(course) and not ports.sampled(progress):
        ports.sample(model, progress)  # it was stopped in the middle of that

    while progress.epoch < settings.epochs and not progress.stopped_early:
        epoch = windows.epoch(progress.epoch)
        for position in range(progress.position, windows.steps_per_epoch):
            begun = perf_counter()
            inputs_BT, targets_BT = epoch.batch(position)
            loss = course.sharded.step(inputs_BT, targets_BT, step=progress.step)  # `gradients` of all shards, added
            grad_norm = nn.utils.clip_grad_norm_(model.parameters(), settings.max_grad_norm).item()
            rate = learning_rate(settings, progress.step, course.total_steps)
            require_finite(loss, grad_norm, settings, step=progress.step + 1)
            for group in optimizer.param_groups:
                group["lr"] = rate
            optimizer.step()

            progress.took_step(loss, perf_counter() - begun)
            rows.step(rate, grad_norm, tokens=targets_BT.numel(), last=progress.step == course.total_steps)
            if ports.stop():
                raise Stopped
            if due(progress.step, settings.checkpoint_every_steps) and progress.position < windows.steps_per_epoch:
                course.save()

        summary = end_epoch(course)
        by_step = due(progress.step, settings.checkpoint_every_steps)
        if course.ends or by_step or due(progress.epoch, settings.checkpoint_every_epochs):
            course.save()
        ports.epoch_ended(summary)
        if samples_are_due(course):
            ports.sample(model, progress)


def end_epoch(course: Course) -> EpochSummary:
    """Evaluate, remember the best weights, write a row of the history, and see whether patience has run out."""
    progress, settings = course.state.progress, course.settings
    rate = learning_rate(settings, progress.step - 1, course.total_steps)
    loss = None
    tokens = course.windows.steps_per_epoch * course.windows.batch_size * course.windows.seq
    if len(course.validation) > 1:
        loss = held_out_loss(course)
        require_finite(loss, 0.0, settings, step=progress.step)
        course.ports.metrics(progress.step, {"eval_loss": loss})
    summary = progress.ended_epoch(loss, learning_rate=rate, tokens=tokens)
    if loss is not None and progress.is_better(loss):
        course.state.keep_best()
    waited = progress.epoch - progress.best_epoch
    progress.stopped_early = loss is not None and 0 < settings.patience_epochs <= waited
    return summary


def samples_are_due(course: Course) -> bool:
    """Whether the model writes after the epoch that was finished."""
    return course.ends or due(course.state.progress.epoch, course.settings.sample_every_epochs)


def held_out_loss(course: Course) -> float:
    """The validation loss of the weights as they are, in nats a token. Raises Stopped."""
    return mean_loss(course.state.model, course.validation, run_each=course.sharded.map, stop=course.ports.stop)


def learning_rate(settings: PretrainSettings, step: int, total_steps: int) -> float:
    """The rate of step number `step`, from 0: up in a line over the warm-up, then half a cosine down to its share."""
    if step < settings.warmup_steps:
        return settings.learning_rate * (step + 1) / settings.warmup_steps
    share = (step - settings.warmup_steps) / max(1, total_steps - settings.warmup_steps)
    falling = 0.5 * (1 + math.cos(math.pi * min(1.0, share)))  # from 1 to 0
    return settings.learning_rate * (settings.final_rate_share + (1 - settings.final_rate_share) * falling)


def require_finite(loss: float, grad_norm: float, settings: PretrainSettings, *, step: int) -> None:
    """Raises LossNotFinite where either is NaN or infinite; the weights have not taken it in."""
    for name, value in (("loss", loss), ("gradient norm", grad_norm)):
        if not math.isfinite(value):
            rate = settings.learning_rate
            raise LossNotFinite(
                f"the {name} is {value} at step {step}; reduce learning_rate from {rate:g} to {rate / 10:g}, or give "
                "warmup_steps of a few hundred",
                step=step,
            )


class MetricRows:
    """A row every so many steps and at the last one: mean loss since the row before, rate, gradient norm, speed."""

    def __init__(self, progress: Progress, ports: Ports, *, every: int) -> None:
        self.progress, self.ports, self.every = progress, ports, every
        self.begun, self.tokens = perf_counter(), 0

    def step(self, rate: float, grad_norm: float, *, tokens: int, last: bool) -> None:
        """Called after each step. tokens: trained on in it."""
        self.tokens += tokens
        if not (last or due(self.progress.step, self.every)):
            return
        now = perf_counter()
        values = {
            "loss": self.progress.mean_since_last_row(),
            "learning_rate": rate,
            "grad_norm": grad_norm,
            "tokens_per_s": self.tokens / (now - self.begun),
        }
        self.ports.metrics(self.progress.step, values)
        self.begun, self.tokens = now, 0


def due(count: int, every: int) -> bool:
    """Whether it is the time of something that happens every so often; `every` 0: never."""
    return every > 0 and count % every == 0
