"""Tensors in files: safetensors, never a pickle. Written through Python, whose files follow the umask and whose errors
say that a disk is full by number; safetensors' own writer does neither.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import safetensors.torch
from torch import Tensor


def write(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Write named tensors, copied to the CPU where they are elsewhere."""
    on_cpu = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    path.write_bytes(safetensors.torch.save(on_cpu, metadata={"format": "pt"}))


def read(path: Path) -> dict[str, Tensor]:
    """Named tensors, on the CPU. Raises FileNotFoundError, or SafetensorError where the file is not whole."""
    tensors: dict[str, Tensor] = safetensors.torch.load_file(path)
    return tensors
