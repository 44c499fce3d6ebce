"""Out of memory: how to see that the kernel killed for it, and what to change so that it fits.

A process that the kernel kills for memory leaves no word on stderr; only its cgroup's counter tells.
"""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import Any

from google.protobuf.message import Message

from tunesmith.spec import default_of, kind_of
from tunesmith.v1 import job_spec_pb2

SHORTEST_WINDOW = 8  # tokens; the contract's least max_seq_length


def oom_counter() -> str:
    """The file that counts the OOM kills of this process's memory cgroup; empty where there is none."""
    own = {}
    for line in _lines(Path("/proc/self/cgroup")):
        _, controllers, path = line.split(":", 2)
        own[controllers] = path
    for line in _lines(Path("/proc/self/mountinfo")):
        before, _, after = line.partition(" - ")
        mount, (kind, _, options) = Path(before.split()[4]), after.split()[:3]
        if kind == "cgroup2":
            name, path = "memory.events", own.get("", "/")
        elif kind == "cgroup" and "memory" in options.split(","):
            name = "memory.oom_control"
            path = next((path for names, path in own.items() if "memory" in names.split(",")), "/")
        else:
            continue
        for folder in (mount / path.lstrip("/"), mount):
            if os.access(folder / name, os.R_OK):
                return str(folder / name)
    return ""


def oom_kills(counter: str) -> int:
    """What the counter says; 0 where it cannot be read."""
    for line in _lines(Path(counter)) if counter else ():
        name, _, value = line.partition(" ")
        if name == "oom_kill":
            return int(value)
    return 0


def remedy(spec: job_spec_pb2.JobSpec) -> str:
    """What to change so that the training needs less memory, with numbers: `reduce batch_size from 8 to 4 …`."""
    body = getattr(spec, kind_of(spec) or "supervised")
    training = body.training
    batch = _value(training, "batch_size")
    if "adapter" not in body.DESCRIPTOR.fields_by_name:
        return smaller_text_step(batch, _value(body.model, "max_seq_length"))
    if batch > 1:
        parts, smaller = _value(training, "gradient_accumulation_steps"), batch // 2
        more = math.ceil(batch * parts / smaller)
        same = f"gradient_accumulation_steps from {parts} to {more} to keep the effective batch of {batch * parts}"
        return f"reduce batch_size from {batch} to {smaller} and set {same}"
    if not _value(training, "gradient_checkpointing"):
        return "set gradient_checkpointing to true"
    clip_s = _value(training, "max_clip_s")
    if clip_s > 2:
        return f"reduce max_clip_s from {clip_s:g} to {clip_s / 2:g}"
    rank = _value(body.adapter, "lora_r")
    if rank > 1:
        return f"reduce lora_r from {rank} to {rank // 2}"
    return "take a smaller base model or a node with more memory"


def smaller_text_step(batch_size: int, max_seq_length: int) -> str:
    """What makes a step of a language model smaller."""
    if batch_size > 1:
        return f"reduce batch_size from {batch_size} to {batch_size // 2}"
    if max_seq_length > SHORTEST_WINDOW:
        return f"reduce max_seq_length from {max_seq_length} to {max(SHORTEST_WINDOW, max_seq_length // 2)}"
    return "reduce d_model, layers or vocab_size, or take a machine with more memory"


def _value(message: Message, name: str) -> Any:
    """A setting, or the contract's default where it was left open."""
    if message.HasField(name):
        return getattr(message, name)
    return default_of(message.DESCRIPTOR.fields_by_name[name])  # type: ignore[arg-type]  # the same class, typed twice


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text().splitlines()
    except OSError:
        return []
