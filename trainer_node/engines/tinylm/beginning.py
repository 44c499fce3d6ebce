"""Where a pretraining begins: at nothing, or at a checkpoint of the same text under the same settings."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path

import torch

from trainer_node.engines.tinylm import speed
from trainer_node.engines.tinylm.heads import ranks_by_frequency
from trainer_node.engines.tinylm.model import TinyTransformer
from trainer_node.engines.tinylm.ports import Beginning, Ports, Text
from trainer_node.engines.tinylm.progress import Progress, State, read_progress
from trainer_node.engines.tinylm.settings import TELLING_ONLY, ModelSettings, PretrainSettings
from trainer_node.engines.tinylm.windows import Windows
from trainer_node.errors import DataInvalid
from tunesmith.errors import FieldProblem, InvalidField

# What may differ when a training goes on, for it changes no weight; and what `_require_same` looks at by itself.
_MAY_CHANGE = TELLING_ONLY | {"patience_epochs", "precision", "shards"}


def first_state(
    text: Text,
    windows: Windows,
    shape: ModelSettings,
    settings: PretrainSettings,
    gradients: speed.ShardGradients,
    ports: Ports,
) -> State:
    """Untrained weights, and an arithmetic chosen for this processor."""
    ranks_V = ranks_by_frequency(windows.tokens, shape.vocab_size)
    model = TinyTransformer(shape, seed=settings.seed, ranks_V=ranks_V)
    trial = windows.epoch(0).batch(0)
    arithmetic, why = speed.choose(model, gradients, trial, precision=settings.precision, shards=settings.shards)
    ports.begins(_beginning(windows, settings, model, arithmetic, f"trains with {arithmetic}: {why}"))
    progress = Progress(bf16=arithmetic.bf16, shards=arithmetic.shards, identity=_identity(text, shape, settings))
    return State(model, make_optimizer(model, settings), progress)


def state_of(
    checkpoint: Path, text: Text, windows: Windows, shape: ModelSettings, settings: PretrainSettings, ports: Ports
) -> State:
    """The state in a checkpoint, with its arithmetic.

    Raises CheckpointCorrupt, InvalidField or DataInvalid where it is not whole or not one of this training.
    """
    progress = read_progress(checkpoint)
    wished = replace(settings, shards=min(settings.shards, windows.batch_size))  # as first_state took them
    _require_same(progress, _identity(text, shape, settings), wished)
    model = TinyTransformer(shape, seed=settings.seed)
    state = State(model, make_optimizer(model, settings), progress)
    state.restore(checkpoint)
    arithmetic = speed.Arithmetic(progress.bf16, progress.shards)
    said = f"goes on after step {progress.step}, with {arithmetic}"
    ports.begins(_beginning(windows, settings, model, arithmetic, said))
    return state


def make_optimizer(model: TinyTransformer, settings: PretrainSettings) -> torch.optim.Optimizer:
    """AdamW, all weights in one pass. Matrices decay; biases and LayerNorms, which have nothing to shrink, do not."""
    matrices = [parameter for parameter in model.parameters() if parameter.dim() > 1]
    others = [parameter for parameter in model.parameters() if parameter.dim() <= 1]
    groups = [
        {"params": matrices, "weight_decay": settings.weight_decay},
        {"params": others, "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=settings.learning_rate, betas=(0.9, 0.999), fused=True)


def _beginning(
    windows: Windows, settings: PretrainSettings, model: TinyTransformer, arithmetic: speed.Arithmetic, said: str
) -> Beginning:
    return Beginning(
        arithmetic=arithmetic,
        total_steps=settings.epochs * windows.steps_per_epoch,
        parameters=sum(parameter.numel() for parameter in model.parameters()),
        said=said,
    )


def _identity(text: Text, shape: ModelSettings, settings: PretrainSettings) -> dict[str, str]:
    decisive = {name: value for name, value in asdict(settings).items() if name not in _MAY_CHANGE}
    return {
        "settings": json.dumps({**asdict(shape), **decisive}),
        "training": hashlib.sha256(text.training.astype("<i4").tobytes()).hexdigest(),
        "validation": hashlib.sha256(text.validation.astype("<i4").tobytes()).hexdigest(),
    }


def _require_same(progress: Progress, now: Mapping[str, str], settings: PretrainSettings) -> None:
    """Raises InvalidField, which names what the checkpoint was trained with, or DataInvalid."""
    before, wanted = json.loads(progress.identity["settings"]), json.loads(now["settings"])
    if settings.precision != "auto":
        before["precision"], wanted["precision"] = "bf16" if progress.bf16 else "fp32", settings.precision
    if settings.shards:
        before["shards"], wanted["shards"] = progress.shards, settings.shards
    changed = [
        FieldProblem(name, f"the checkpoint was trained with {before.get(name)!r}; resume with that, or start anew")
        for name, value in wanted.items()
        if before.get(name) != value
    ]
    if changed:
        raise InvalidField.of(changed)
    if any(progress.identity[part] != now[part] for part in ("training", "validation")):
        raise DataInvalid("the checkpoint was trained on another text; resume with that one, or start anew")
