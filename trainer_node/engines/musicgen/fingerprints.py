"""SHA-256 of weights and of settings: what caches and reports name a model by."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping

import torch


def of_weights(module: torch.nn.Module, settings: Mapping[str, object]) -> str:
    """Fingerprint of a module's parameters and buffers, with the settings that change what it computes."""
    digest = hashlib.sha256(canonical(settings))
    for name, tensor in sorted(module.state_dict().items()):
        digest.update(f"{name}:{tensor.dtype}:{tuple(tensor.shape)}".encode())
        digest.update(tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy())
    return digest.hexdigest()


def of_values(values: Mapping[str, object]) -> str:
    """Fingerprint of plain values."""
    return hashlib.sha256(canonical(values)).hexdigest()


def canonical(values: Mapping[str, object]) -> bytes:
    """The one JSON text of these values."""
    return json.dumps(values, sort_keys=True, separators=(",", ":"), default=str).encode()
