"""SHA-256 of weights and of settings: what caches and reports name a model by."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping

import torch
from torch import Tensor


def of_weights(module: torch.nn.Module, settings: Mapping[str, object]) -> str:
    """Fingerprint of a module's parameters and buffers, with the settings that change what it computes."""
    return of_tensors(module.state_dict(), settings)


def of_tensors(tensors: Mapping[str, Tensor], settings: Mapping[str, object] | None = None) -> str:
    """Fingerprint of named tensors, with the settings that change what they compute."""
    digest = hashlib.sha256(canonical(settings or {}))
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name}:{tensor.dtype}:{tuple(tensor.shape)}".encode())
        digest.update(tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def of_values(values: Mapping[str, object]) -> str:
    """Fingerprint of plain values."""
    return hashlib.sha256(canonical(values)).hexdigest()


def canonical(values: Mapping[str, object]) -> bytes:
    """The one JSON text of these values."""
    return json.dumps(values, sort_keys=True, separators=(",", ":"), default=str).encode()
