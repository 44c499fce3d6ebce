"""How far a training has come, and the checkpoint that holds it: weights, optimiser, numbers. No pickle.

There is no random state to save: initial weights follow from the seed, an epoch's order and offset from the seed and
its number, dropout from the seed, the step and the shard. So a training that goes on from a checkpoint, in the middle
of an epoch too, takes the same batches under the same masks, and comes to the same bits.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

import torch
from safetensors import SafetensorError
from torch import Tensor

from trainer_node import checkpoints
from trainer_node.checkpoints import CheckpointFolder
from trainer_node.engines import tensor_files
from trainer_node.engines.tinylm.model import TinyTransformer
from trainer_node.errors import CheckpointCorrupt

WEIGHTS, BEST_WEIGHTS, OPTIMIZER = "model.safetensors", "best_model.safetensors", "optimizer.safetensors"
PROGRESS = "progress.json"


@dataclass(frozen=True)
class EpochSummary:
    """One row of the training history. Losses in nats a token.

    train_loss: mean over the epoch, with dropout; validation_loss: at its end, None where nothing is held out.
    learning_rate: of its last step. seconds: of its steps; tokens_per_s: trained on, in that time.
    """

    epoch: int
    step: int
    train_loss: float
    validation_loss: float | None
    learning_rate: float
    tokens_per_s: float
    seconds: float


@dataclass
class Progress:
    """Plain numbers; JSON keeps every bit of them.

    epoch: epochs finished, validation included. position: steps taken in the one after. epoch_loss, logged_loss: sums
    of the steps' losses in this epoch and since the last metric row, which was after `logged_step`. untrained_loss: of
    the validation text before the first step. bf16, shards: the arithmetic; identity: what the training is of.
    """

    step: int = 0
    epoch: int = 0
    position: int = 0
    epoch_loss: float = 0.0
    epoch_seconds: float = 0.0
    logged_loss: float = 0.0
    logged_step: int = 0
    untrained_loss: float | None = None
    best_loss: float | None = None
    best_epoch: int = 0
    best_step: int = 0
    stopped_early: bool = False
    bf16: bool = False
    shards: int = 1
    history: list[EpochSummary] = field(default_factory=list)
    identity: dict[str, str] = field(default_factory=dict)

    def took_step(self, loss: float, seconds: float) -> None:
        """Count one step."""
        self.step += 1
        self.position += 1
        self.epoch_loss += loss
        self.logged_loss += loss
        self.epoch_seconds += seconds

    def mean_since_last_row(self) -> float:
        """The mean training loss since the last metric row, and begin the next."""
        mean = self.logged_loss / (self.step - self.logged_step)
        self.logged_loss, self.logged_step = 0.0, self.step
        return mean

    def ended_epoch(self, validation_loss: float | None, *, learning_rate: float, tokens: int) -> EpochSummary:
        """Close the epoch. tokens: trained on in it."""
        summary = EpochSummary(
            epoch=self.epoch + 1,
            step=self.step,
            train_loss=self.epoch_loss / self.position,
            validation_loss=validation_loss,
            learning_rate=learning_rate,
            tokens_per_s=tokens / self.epoch_seconds if self.epoch_seconds else 0.0,
            seconds=self.epoch_seconds,
        )
        self.history.append(summary)
        self.epoch, self.position, self.epoch_loss, self.epoch_seconds = summary.epoch, 0, 0.0, 0.0
        return summary

    def is_better(self, loss: float) -> bool:
        """Whether this is the lowest validation loss so far; then it is remembered, with the epoch that just ended."""
        if self.best_loss is not None and loss >= self.best_loss:
            return False
        self.best_loss, self.best_epoch, self.best_step = loss, self.epoch, self.step
        return True

    def to_json(self) -> str:
        """As it stands in a checkpoint."""
        return json.dumps(asdict(self), indent=1)

    @classmethod
    def from_json(cls, text: str) -> Progress:
        """Raises ValueError, TypeError or KeyError where it is none."""
        values = json.loads(text)
        return cls(**{**values, "history": [EpochSummary(**row) for row in values["history"]]})


@dataclass
class State:
    """All that a checkpoint holds. best: the weights of `progress.best_step`, None before there is one."""

    model: TinyTransformer
    optimizer: torch.optim.Optimizer
    progress: Progress
    best: dict[str, Tensor] | None = None

    def keep_best(self) -> None:
        """Remember the weights as they are now."""
        self.best = {name: tensor.detach().clone() for name, tensor in self.model.state_dict().items()}

    def commit(self, folder: CheckpointFolder) -> Path:
        """Write a checkpoint, whole or not at all; returns where it is."""
        with folder.commit(self.progress.step) as writing:
            tensor_files.write(writing / WEIGHTS, self.model.state_dict())
            tensor_files.write(writing / OPTIMIZER, _flat(self.optimizer.state_dict()["state"]))
            if self.best is not None and self.progress.best_step != self.progress.step:
                tensor_files.write(writing / BEST_WEIGHTS, self.best)
            (writing / PROGRESS).write_text(self.progress.to_json(), encoding="utf-8")
        folder.prune(best_step=None)  # the best weights are in every one
        return folder.path(self.progress.step)

    def restore(self, checkpoint: Path) -> None:
        """Take over weights and moments from a checkpoint, whose progress this is already."""
        try:
            weights = tensor_files.read(checkpoint / WEIGHTS)
            self.model.load_state_dict(weights)
            groups = self.optimizer.state_dict()["param_groups"]
            self.optimizer.load_state_dict(
                {"state": _nested(tensor_files.read(checkpoint / OPTIMIZER)), "param_groups": groups}
            )
            if (checkpoint / BEST_WEIGHTS).is_file():
                self.best = tensor_files.read(checkpoint / BEST_WEIGHTS)
            elif self.progress.best_step:
                self.best = weights
        except (OSError, SafetensorError, RuntimeError, ValueError, KeyError) as error:
            raise CheckpointCorrupt(
                f"the checkpoint {checkpoint.name} does not fit this model ({error}); go on from an earlier one, or "
                "start anew"
            ) from error


def read_progress(checkpoint: Path) -> Progress:
    """The progress in a checkpoint, whose files are all proven whole. Raises CheckpointCorrupt."""
    checkpoints.verify(checkpoint)
    try:
        return Progress.from_json((checkpoint / PROGRESS).read_text(encoding="utf-8"))
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise CheckpointCorrupt(
            f"the checkpoint {checkpoint.name} is not one of a language model; name another, or start anew"
        ) from error


def _flat(state: Mapping[int, Mapping[str, Tensor]]) -> dict[str, Tensor]:
    return {f"{parameter}.{name}": tensor for parameter, values in state.items() for name, tensor in values.items()}


def _nested(flat: Mapping[str, Tensor]) -> dict[int, dict[str, Tensor]]:
    state: dict[int, dict[str, Tensor]] = {}
    for key, tensor in flat.items():
        parameter, _, name = key.partition(".")
        state.setdefault(int(parameter), {})[name] = tensor
    return state
