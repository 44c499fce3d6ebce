"""The random generators of a process: set aside, saved and restored. Tensors go to safetensors, the rest to JSON."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch

from trainer_node.engines import tensor_files

TENSORS = "random.safetensors"
VALUES = "random.json"


@contextmanager
def untouched_randomness() -> Iterator[None]:
    """Give every generator its state back at the end: what runs inside does not change the training around it."""
    python, numpy = random.getstate(), np.random.get_state()
    try:
        with torch.random.fork_rng():
            yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)


def save(folder: Path, generators: Mapping[str, torch.Generator]) -> None:
    """Write the state of Python's, numpy's and torch's generators and of these, by name."""
    tensors = {f"generator.{name}": generator.get_state() for name, generator in generators.items()}
    tensors["torch"] = torch.random.get_rng_state()
    if torch.cuda.is_available():
        tensors["cuda"] = torch.cuda.random.get_rng_state()
    tensor_files.write(folder / TENSORS, tensors)
    kind, keys, position, has_gauss, gauss = np.random.get_state(legacy=True)
    numpy = [kind, np.asarray(keys).tolist(), position, has_gauss, gauss]
    (folder / VALUES).write_text(json.dumps({"python": random.getstate(), "numpy": numpy}), encoding="utf-8")


def load(folder: Path, generators: Mapping[str, torch.Generator]) -> None:
    """Set every generator to what `save` wrote. A checkpoint of a CPU goes on on a GPU with that GPU's own stream."""
    tensors = tensor_files.read(folder / TENSORS)
    for name, generator in generators.items():
        generator.set_state(tensors[f"generator.{name}"])
    torch.random.set_rng_state(tensors["torch"])
    if torch.cuda.is_available() and "cuda" in tensors:
        torch.cuda.random.set_rng_state(tensors["cuda"])
    values = json.loads((folder / VALUES).read_text(encoding="utf-8"))
    version, internal, gauss = values["python"]
    random.setstate((version, tuple(internal), gauss))
    kind, keys, position, has_gauss, cached = values["numpy"]
    np.random.set_state((kind, np.array(keys, dtype=np.uint32), position, has_gauss, cached))
