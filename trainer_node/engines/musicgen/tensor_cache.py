"""Tensors computed once, by the fingerprint of everything that they depend on.

So an entry is never wrong, only missing: each is sealed with the fingerprint of its key and value, and one that cannot
be read or whose seal is broken is computed again. Entries are written beside and renamed, so that concurrent jobs may
share the folder. It may be deleted at any time; one that cannot be written to costs time, not the training.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError
from torch import Tensor

from trainer_node import preflight
from trainer_node.engines import tensor_files
from trainer_node.engines.musicgen import fingerprints


class TensorCache:
    """One tensor a file below `folder`. `computed` of the `looked_up` were not there."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.computed = 0
        self.looked_up = 0
        self._complained = False

    def get(self, key: Mapping[str, object], compute: Callable[[], Tensor]) -> Tensor:
        """The tensor of a key, on the CPU. Raises OSError where the disk is full."""
        name = fingerprints.of_values(key)
        path = self.folder / name[:2] / f"{name}.safetensors"
        self.looked_up += 1
        kept = _read(path, name)
        if kept is not None:
            return kept
        value = compute().contiguous()
        self.computed += 1
        try:
            _write(path, {"value": value, "seal": _seal(name, value)})
        except OSError as error:
            if error.errno in preflight.NO_ROOM:
                raise
            self._complain(error)
        return value

    def _complain(self, error: OSError) -> None:
        if not self._complained:
            print(f"{self.folder} cannot be written ({error.strerror}), so nothing is kept there", flush=True)
        self._complained = True


def _read(path: Path, name: str) -> Tensor | None:
    """The value of an entry; None where it is missing, damaged or that of another name."""
    try:
        entry = tensor_files.read(path)
        value, seal = entry["value"], entry["seal"]
    except (OSError, SafetensorError, KeyError):
        return None
    return value if seal.tolist() == _seal(name, value).tolist() else None


def _seal(name: str, value: Tensor) -> Tensor:
    digest = fingerprints.of_tensors({"value": value}, {"name": name})
    return torch.tensor(list(bytes.fromhex(digest)), dtype=torch.uint8)


def _write(path: Path, entry: Mapping[str, Tensor]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".writing-{uuid.uuid4().hex}")
    try:
        tensor_files.write(beside, entry)
        beside.replace(path)
    except BaseException:
        beside.unlink(missing_ok=True)
        raise
