"""Running out of memory, with the setting to change and the number to change it to."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from trainer_node.errors import OutOfMemory
from tunesmith.v1 import job_spec_pb2

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


def smaller_step(training: job_spec_pb2.TrainingSettings) -> str:
    """What makes a training step smaller: half the batch, else recomputed activations, else shorter clips."""
    batch, parts = training.batch_size, training.gradient_accumulation_steps
    if batch > 1:
        smaller = batch // 2
        more = math.ceil(batch * parts / smaller)
        return (
            f"reduce batch_size from {batch} to {smaller} and set gradient_accumulation_steps from {parts} to {more} "
            f"to keep the effective batch of {batch * parts}"
        )
    if not training.gradient_checkpointing:
        return "set gradient_checkpointing to true"
    return shorter_clips(training)


def shorter_clips(training: job_spec_pb2.TrainingSettings) -> str:
    """What makes a clip smaller."""
    return (
        f"reduce max_clip_s from {training.max_clip_s:g} to {training.max_clip_s / 2:g}, or take a smaller base model"
    )


def shorter_previews(previews: job_spec_pb2.PreviewSettings) -> str:
    """What makes a preview smaller."""
    return f"reduce preview_s from {previews.preview_s:g} to {previews.preview_s / 2:g}"
