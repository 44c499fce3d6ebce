"""The settings of the language model's parts: frozen, complete, with the reason for each default that has one.

Measured on 3 MB of English and Spanish, 20 epochs: docs/explanation/training tells with which figures.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from tunesmith.errors import FieldProblem, InvalidField

HOTTEST, MOST_PIECES, LARGEST_SEED = 10, 64_000, 2**31 - 1  # as in the contract
LONGEST = 1_000_000  # of a text that a person may wait for

HeadKind = Literal["tree", "plain"]
Precision = Literal["auto", "fp32", "bf16"]


@dataclass(frozen=True, kw_only=True)
class ModelSettings:
    """The shape of a TinyTransformer. max_seq_length: positions, in tokens; ffn: width between a block's two products.

    Raises InvalidField where the parts do not fit together.
    """

    vocab_size: int
    max_seq_length: int = 128  # shorter windows learn faster and overfit: val − train grows from 0.27 to 0.65 at 64
    layers: int = 2
    d_model: int = 128
    heads: int = 4
    ffn: int = 512
    dropout: float = 0.1  # costs 0.03 of validation loss, and takes a third off its distance to the training loss
    head: HeadKind = "tree"  # the same loss as `plain` at an eighth of the head's work

    def __post_init__(self) -> None:
        problems = [
            FieldProblem(name, f"{getattr(self, name)} is too few; give at least {least}")
            for name, least in (("vocab_size", 2), ("max_seq_length", 2), ("layers", 1), ("heads", 1), ("ffn", 1))
            if getattr(self, name) < least
        ]
        if self.heads >= 1 and (self.d_model < 1 or self.d_model % self.heads):
            nearest = max(1, round(self.d_model / self.heads)) * self.heads
            problems.append(
                FieldProblem("d_model", f"{self.d_model} cannot be split into {self.heads} heads; give {nearest}")
            )
        if not 0 <= self.dropout < 1:
            problems.append(FieldProblem("dropout", f"{self.dropout:g} is outside [0, 1); give 0.1, or 0 for none"))
        if problems:
            raise InvalidField.of(problems)


# Of PretrainSettings: what tells and keeps a training, and changes no weight of it.
TELLING_ONLY = {"log_every_steps", "checkpoint_every_epochs", "checkpoint_every_steps", "sample_every_epochs"}


@dataclass(frozen=True, kw_only=True)
class PretrainSettings:
    """How a model is trained. Counts of 0 turn off what they count.

    precision: `auto` takes bf16 where the processor has it, else whatever is faster in a few steps.
    shards: parts of each batch that are trained at the same time, one thread each; 0 takes one for each core, up to 4.
    The weights depend on the seed, the precision and the number of shards, and on nothing else that may vary.
    """

    epochs: int = 20
    batch_size: int = 32  # windows
    learning_rate: float = 3e-4  # 6e-4 reaches a lower validation loss and overfits beyond 0.5
    warmup_steps: int = 0
    final_rate_share: float = 0.1  # of the learning rate, at the end; at 0 the last epochs learn less than chance moves
    weight_decay: float = 0.01  # on matrices only
    max_grad_norm: float = 1.0
    seed: int = 42
    log_every_steps: int = 10
    checkpoint_every_epochs: int = 5
    checkpoint_every_steps: int = 0
    sample_every_epochs: int = 5
    patience_epochs: int = 0  # epochs without a lower validation loss until the training stops
    precision: Precision = "auto"
    shards: int = 0


@dataclass(frozen=True, kw_only=True)
class SamplingSettings:
    """How text is sampled. temperature: 0 always takes the most likely piece; top_k: 0 looks at all pieces.

    Raises InvalidField where a value is out of its range.
    """

    max_tokens: int = 60
    temperature: float = 0.8
    top_k: int = 40
    seed: int = 0

    def __post_init__(self) -> None:
        problems = [
            FieldProblem(name, f"{value} is not within 0 to {largest:,}; give {instead}")
            for name, value, largest, instead in (
                ("temperature", self.temperature, HOTTEST, "0.8, or 0 for the most likely piece"),
                ("top_k", self.top_k, MOST_PIECES, "40, or 0 for all pieces"),
                ("max_tokens", self.max_tokens, LONGEST, "60"),
                ("seed", self.seed, LARGEST_SEED, "any whole number in it"),
            )
            if not 0 <= value <= largest  # nor is a number that is none
        ]
        if problems:
            raise InvalidField.of(problems)
