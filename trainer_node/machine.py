"""What this machine computes on, in words, without loading PyTorch to find out."""

from __future__ import annotations

import os
from pathlib import Path

_NVIDIA = Path("/proc/driver/nvidia/gpus")


def device_name(wished: str = "") -> str:
    """Such as `cpu, 2 cores`, `NVIDIA H200` or `2 × NVIDIA H200`. wished: the device that trainings are given."""
    gpus = [] if wished.startswith("cpu") else _gpus()
    if not gpus:
        cores = len(os.sched_getaffinity(0))
        return f"cpu, {cores} core{'s' if cores > 1 else ''}"
    names = dict.fromkeys(gpus)
    return ", ".join(name if gpus.count(name) == 1 else f"{gpus.count(name)} × {name}" for name in names)[:200]


def _gpus() -> list[str]:
    found = []
    for path in sorted(_NVIDIA.glob("*/information")) if _NVIDIA.is_dir() else ():
        for line in path.read_text(errors="replace").splitlines():
            name, _, value = line.partition(":")
            if name.strip() == "Model":
                found.append(value.strip())
    return found
