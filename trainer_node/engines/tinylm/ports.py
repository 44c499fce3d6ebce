"""What a pretraining is given beside its settings, and what it gives back."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from trainer_node.engines.tinylm.model import TinyTransformer
from trainer_node.engines.tinylm.progress import EpochSummary, Progress
from trainer_node.engines.tinylm.speed import Arithmetic
from trainer_node.engines.tinylm.windows import Tokens
from trainer_node.stop_signal import never
from trainer_node.training import StopRequested


@dataclass(frozen=True, kw_only=True)
class Text:
    """What is trained and measured on: token ids, documents one after the other, the end-of-text id behind each.

    validation: may be empty; then nothing is held out.
    """

    training: Tokens
    validation: Tokens


@dataclass(frozen=True, kw_only=True)
class Beginning:
    """A training whose text and weights are loaded. total_steps: of all its epochs; parameters: numbers to train.

    said: how it trains, in a line for people.
    """

    arithmetic: Arithmetic
    total_steps: int
    parameters: int
    said: str


def _nobody(*_: object) -> None:
    """Listens to a port."""


@dataclass(frozen=True, kw_only=True)
class Ports:
    """Where a training is heard and asked to stop. All but `stop` are called in the training's own thread, between two
    steps.

    begins: once, before all others. metrics: a row of values by name, with its step. epoch_ended: a row of the history.
    saved: a committed checkpoint. sample: the model as it is now, with the progress; what it does changes nothing, and
    it may raise Stopped. sampled: where one goes on after an epoch, whether its samples are there.
    stop: asked after every step, and from any thread between two batches of an evaluation.
    """

    begins: Callable[[Beginning], None] = _nobody
    metrics: Callable[[int, Mapping[str, float]], None] = _nobody
    epoch_ended: Callable[[EpochSummary], None] = _nobody
    saved: Callable[[Path, Progress], None] = _nobody
    sample: Callable[[TinyTransformer, Progress], None] = _nobody
    sampled: Callable[[Progress], bool] = lambda _: True
    stop: StopRequested = never


@dataclass(frozen=True, kw_only=True)
class Pretrained:
    """What came of it. best: weights at the lowest validation loss; the last ones where nothing was held out.

    finished: or stopped on request, with a checkpoint committed at `progress.step`.
    """

    model: TinyTransformer
    best: Mapping[str, Tensor]
    progress: Progress
    finished: bool
