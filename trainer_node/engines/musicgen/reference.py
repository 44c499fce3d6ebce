"""The reference of preference training: how likely each clip is under what the training starts from.

It never changes during a training, so it is computed once a clip and kept: a step then costs one forward pass instead
of two. Clips are scored one at a time, so that a value does not depend on what it is batched with. The cache key holds
the codes, the prompt's states, the weights and LoRA's scale, so that trainings from the same start share entries,
whatever their method.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from trainer_node.engines.musicgen import family, fingerprints, losses
from trainer_node.engines.musicgen.devices import Device
from trainer_node.engines.musicgen.family import Clip
from trainer_node.engines.musicgen.features import Stopped
from trainer_node.engines.musicgen.tensor_cache import TensorCache
from trainer_node.training import StopRequested

VERSION = 1  # raise it when the same clip and weights shall give another number


class Reference:
    """Log-probabilities under `model` as it is now. weights: fingerprint of everything in it that decides them."""

    def __init__(self, model: Any, *, weights: str, channels: int, device: Device, cache_dir: Path) -> None:
        self.model = model
        self.channels = channels
        self.cache = TensorCache(cache_dir / "reference")
        self._fixed = {
            "weights": weights,
            "lora_scale": _lora_scale(model),
            "device": str(device),
            "channels": channels,
            "version": VERSION,
        }
        self._device = device
        self._known: dict[int, tuple[Clip, float]] = {}  # by id; the clip is held, so that its id stays its own

    def logp(self, clip: Clip, stop: StopRequested) -> float:
        """Log-probability of a clip given its prompt in nats, summed over its tokens. Raises Stopped if asked to."""
        if id(clip) not in self._known:
            if stop():
                raise Stopped
            key = {**self._fixed, "clip": fingerprints.of_tensors({"codes": clip.codes_KT, "text": clip.text_LD})}
            self._known[id(clip)] = clip, float(self.cache.get(key, lambda: self._score(clip)))
        return self._known[id(clip)][1]

    @torch.no_grad()
    def _score(self, clip: Clip) -> Tensor:
        """A scalar in 64 bits, on the CPU."""
        was_training = self.model.training
        self.model.eval()
        batch = family.to_device(family.collate([clip], channels=self.channels), self._device.name)
        nll_BKS = losses.token_nll(family.score(self.model, batch), batch["labels_BKS"])
        self.model.train(was_training)
        return -nll_BKS.double().sum().cpu()


def _lora_scale(model: Any) -> float:
    """What the adapter's matrices are multiplied by: not a weight, and yet it decides what the model says."""
    config = model.peft_config["default"]
    return float(config.lora_alpha / config.r)
