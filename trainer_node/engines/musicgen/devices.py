"""Which device trains, in which arithmetic, on how many threads."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass

import torch

from tunesmith.errors import FieldProblem, InvalidField
from tunesmith.v1 import job_spec_pb2

_KNOWN = re.compile(r"cpu|cuda(:\d{1,3})?")


@dataclass(frozen=True)
class Device:
    """Where a training runs. dtype: of the frozen base model; what is trained is always in 32 bits."""

    name: str
    dtype: torch.dtype

    def __str__(self) -> str:
        """As in JobStarted: `cpu fp32`, `cuda bf16`."""
        return f"{self.name} {'bf16' if self.dtype == torch.bfloat16 else 'fp32'}"


def choose(asked: str | None, precision: job_spec_pb2.Precision, *, threads: int | None) -> Device:
    """The device that was asked for, or the first GPU, or the CPU; bf16 on a GPU that has it, unless told otherwise.

    Raises InvalidField where what was asked for is not there: a CPU in its place would take days, in silence.
    """
    if threads:
        torch.set_num_threads(threads)
    if asked and not _KNOWN.fullmatch(asked):
        raise _refused(asked, "is no device; give cpu, cuda or cuda:1")
    if asked != "cpu":
        _show_one_gpu(asked)
    name = "cuda" if asked != "cpu" and torch.cuda.is_available() else "cpu"
    if asked and not asked.startswith(name):
        raise _refused(asked, f"is not there for PyTorch {torch.__version__}; give another, or cpu")
    half = precision == job_spec_pb2.PRECISION_BF16 or (
        precision == job_spec_pb2.PRECISION_AUTO and name == "cuda" and torch.cuda.is_bf16_supported()
    )
    return Device(name, torch.bfloat16 if half else torch.float32)


def _show_one_gpu(asked: str | None) -> None:
    """Leave this process one GPU. transformers' Trainer spreads each batch over all that it sees."""
    if "LOCAL_RANK" in os.environ:  # torchrun has given each process its own
        return
    index = int((asked or "").partition(":")[2] or 0)
    visible = [gpu for gpu in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if gpu]
    if visible:
        if index >= len(visible):
            raise _refused(asked or "", f"is beyond CUDA_VISIBLE_DEVICES={','.join(visible)}; give another, or cpu")
        os.environ["CUDA_VISIBLE_DEVICES"] = visible[index]
    elif "CUDA_VISIBLE_DEVICES" not in os.environ:
        os.environ["CUDA_VISIBLE_DEVICES"] = str(index)


def _refused(asked: str, why: str) -> InvalidField:
    return InvalidField.of([FieldProblem("device", f"{asked} {why}")])
