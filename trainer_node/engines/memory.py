"""Running out of memory, whichever way PyTorch says it: one error, with the setting to change."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from trainer_node.errors import OutOfMemory

# What PyTorch's allocator and oneDNN say where a CPU's memory is at its end; the latter names no cause.
_NO_ROOM = ("DefaultCPUAllocator", "could not create a primitive", "could not create a memory")


@contextmanager
def out_of_memory_names(remedy: str) -> Iterator[None]:
    """Turn every way that PyTorch runs out of memory into OutOfMemory, whose message ends in `remedy`."""
    try:
        yield
    except (torch.OutOfMemoryError, MemoryError) as error:
        raise OutOfMemory(f"memory ran out on the {_where(error)}; {remedy}") from error
    except RuntimeError as error:
        if not any(words in str(error) for words in _NO_ROOM):
            raise
        raise OutOfMemory(f"memory ran out on the CPU; {remedy}") from error


def _where(error: BaseException) -> str:
    return "GPU" if isinstance(error, torch.OutOfMemoryError) else "CPU"
