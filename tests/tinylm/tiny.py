"""Models and texts that train in a second."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from trainer_node.checkpoints import CheckpointFolder
from trainer_node.engines.tinylm.model import TinyTransformer
from trainer_node.engines.tinylm.ports import Beginning, Ports, Pretrained, Text
from trainer_node.engines.tinylm.pretrain import pretrain
from trainer_node.engines.tinylm.progress import EpochSummary
from trainer_node.engines.tinylm.settings import ModelSettings, PretrainSettings

VOCAB = 300  # beyond the first cut, so that a tree head has a cluster
END = 2
SHAPE = ModelSettings(vocab_size=VOCAB, max_seq_length=16, layers=2, d_model=16, heads=2, ffn=32)
SETTINGS = PretrainSettings(
    epochs=3, batch_size=4, learning_rate=1e-2, seed=5, log_every_steps=1, checkpoint_every_epochs=0, shards=2,
    precision="fp32",
)  # fmt: skip


def model(**changes: Any) -> TinyTransformer:
    """An untrained model."""
    return TinyTransformer(replace(SHAPE, **changes), seed=3)


def tokens(*shape: int, below: int = VOCAB, seed: int = 0) -> Tensor:
    """Random token ids."""
    return torch.randint(below, shape, generator=torch.Generator().manual_seed(seed))


def counting(length: int, *, below: int = VOCAB) -> np.ndarray[Any, np.dtype[np.uint16]]:
    """A text that can be learned: each token is the one before it and seven."""
    return (np.arange(length) * 7 % below).astype(np.uint16)


TEXT = Text(training=counting(16 * 4 * 6 + 16), validation=counting(100))  # six batches


@dataclass
class Heard:
    """What came through the ports."""

    rows: list[tuple[int, Mapping[str, float]]] = field(default_factory=list)
    epochs: list[EpochSummary] = field(default_factory=list)
    saved: list[str] = field(default_factory=list)
    sampled: list[int] = field(default_factory=list)
    said: list[str] = field(default_factory=list)
    questions: int = 0

    def begun(self, beginning: Beginning) -> None:
        self.said.append(beginning.said)

    def stops(self, *, after: int, at_question: int) -> bool:
        """Whether to stop: after a step, or from the so-and-so-many-th time on that it is asked; 0: never."""
        self.questions += 1
        seen = self.rows[-1][0] if self.rows else 0
        return 0 < after <= seen or 0 < at_question <= self.questions

    def ports(
        self,
        *,
        stop_after: int = 0,
        stop_at_question: int = 0,
        sample: Callable[..., object] | None = None,
        sampled: bool = True,
    ) -> Ports:
        """Ports that are noted down."""
        return Ports(
            metrics=lambda step, values: self.rows.append((step, values)),
            epoch_ended=self.epochs.append,
            saved=lambda folder, _: self.saved.append(folder.name),
            sample=lambda model, progress: (self.sampled.append(progress.epoch), sample and sample(model)),
            sampled=lambda _: sampled,
            begins=self.begun,
            stop=lambda: self.stops(after=stop_after, at_question=stop_at_question),
        )

    def losses(self) -> list[tuple[int, float]]:
        """What does not depend on the clock: losses, rates and gradient norms, with their steps."""
        return [(step, value) for step, row in self.rows for name, value in row.items() if name != "tokens_per_s"]


def train(
    folder: Path,
    heard: Heard | None = None,
    *,
    text: Text = TEXT,
    resume: Path | None = None,
    stop_after: int = 0,
    stop_at_question: int = 0,
    sample: Callable[..., object] | None = None,
    sampled: bool = True,
    shape: Mapping[str, Any] | None = None,
    **settings: Any,
) -> Pretrained:
    """Train the small model on the small text; settings that are not given are those of SETTINGS and SHAPE."""
    return pretrain(
        text,
        replace(SHAPE, **(shape or {})),
        replace(SETTINGS, **settings),
        CheckpointFolder(folder, keep=3),
        resume=resume,
        ports=(heard or Heard()).ports(
            stop_after=stop_after, stop_at_question=stop_at_question, sample=sample, sampled=sampled
        ),
    )


def same_bits(one: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> bool:
    """Whether two sets of weights are equal to the last bit."""
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)
