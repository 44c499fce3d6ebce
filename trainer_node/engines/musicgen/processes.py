"""One training in several processes, as torchrun starts them: all take the same steps, the first one speaks and writes.

Each takes a share of every batch, see shares.py. A process that was started alone is the first of one: nothing here
does anything then.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import sys
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import TypeVar

import torch
from torch import Tensor, distributed

from trainer_node.engines.musicgen.devices import Device
from tunesmith.errors import FieldProblem, InvalidField

T = TypeVar("T")

_PATIENCE = timedelta(hours=12)  # the others wait while the first encodes clips or makes previews


def meet(device: Device) -> None:
    """Find the other processes. To be called before anything is put on the device: each process takes its own GPU."""
    if "LOCAL_RANK" not in os.environ or distributed.is_initialized():
        return
    if device.name != "cpu":
        _take_a_gpu(int(os.environ["LOCAL_RANK"]))
    distributed.init_process_group("gloo" if device.name == "cpu" else "cpu:gloo,cuda:nccl", timeout=_PATIENCE)
    atexit.register(distributed.destroy_process_group)  # or its threads would be torn down with the interpreter


def _take_a_gpu(place: int) -> None:
    gpus = torch.cuda.device_count()
    if place >= gpus:
        problem = f"torchrun started more processes than there are GPUs; give it --nproc-per-node {gpus}"
        raise InvalidField.of([FieldProblem("device", problem)])
    torch.cuda.set_device(place)


def count() -> int:
    """How many processes train together."""
    return distributed.get_world_size() if distributed.is_initialized() else 1


def rank() -> int:
    """The number of this one, from 0."""
    return distributed.get_rank() if distributed.is_initialized() else 0


def is_first() -> bool:
    """Whether this is the process that speaks and writes."""
    return rank() == 0


def own(folder: Path, number: int | None = None) -> Path:
    """Where in a checkpoint a process (by default this one) keeps what it has for itself; the first, in the folder."""
    number = rank() if number is None else number
    return folder / f"rank-{number}" if number else folder


def gathered(value: T) -> list[T]:
    """What each process has given, in the order of their ranks; the same list in all of them."""
    if count() == 1:
        return [value]
    values: list[T | None] = [None] * count()
    distributed.all_gather_object(values, value)
    return values  # type: ignore[return-value]  # all were filled


def added(value: Tensor) -> Tensor:
    """The sum of what each process has given."""
    if count() > 1:
        value = value.clone()
        distributed.all_reduce(value)
    return value


def any_of(here: bool) -> bool:
    """Whether it is so in any process; so all decide alike."""
    return here if count() == 1 else any(gathered(here))


@contextlib.contextmanager
def first_goes_first() -> Iterator[None]:
    """The first process does the body, then all others do it, and find in the cache what the first has put there."""
    if count() > 1 and not is_first():
        distributed.barrier()
    try:
        yield
    finally:
        if count() > 1 and is_first():
            distributed.barrier()


@contextlib.contextmanager
def only_the_first_is_heard() -> Iterator[None]:
    """Drop what other processes print on standard output; their errors are still seen."""
    with contextlib.redirect_stdout(sys.stdout if is_first() else None):
        yield
