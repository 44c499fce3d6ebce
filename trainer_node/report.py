"""What a training tells of itself, as JSON: its configuration and its report. For people, see report_page.py."""

from __future__ import annotations

import importlib.metadata
import os
import platform
from collections.abc import Sequence
from pathlib import Path

from google.protobuf import json_format
from google.protobuf.message import Message

from tunesmith.v1 import job_event_pb2

ADAPTER_PACKAGES = (
    *("tunesmith", "torch", "transformers", "peft", "trl", "accelerate", "safetensors"),
    *("numpy", "soundfile", "soxr"),
)
LANGUAGE_MODEL_PACKAGES = ("tunesmith", "torch", "sentencepiece", "numpy")
CONFIG = "training_config.json"  # in the output folder and in the adapter's: a TrainingConfig
MAX_POINTS = 1000  # of a curve in a report; telemetry has every point


def packages(names: Sequence[str]) -> dict[str, str]:
    """Versions of what takes part in a training."""
    found = {}
    for name in names:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:  # such as tunesmith itself, run from a checkout
            continue
    return found


def environment() -> dict[str, str]:
    """Python, operating system and processor; nothing that names the machine or its user."""
    return {
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.release()}",
        "processor": platform.machine(),
        "processor_count": str(os.cpu_count() or 0),
    }


def curve(points: Sequence[tuple[int, float]]) -> job_event_pb2.Curve:
    """(step, value) pairs, thinned evenly to MAX_POINTS with the first and the last kept."""
    if len(points) > MAX_POINTS:
        stride = (len(points) - 1) / (MAX_POINTS - 1)
        points = [points[round(i * stride)] for i in range(MAX_POINTS)]
    return job_event_pb2.Curve(steps=[step for step, _ in points], values=[value for _, value in points])


def write_json(path: Path, message: Message) -> Path:
    """A message as proto JSON, with the contract's field names and nothing left out."""
    text = json_format.MessageToJson(
        message, preserving_proto_field_name=True, always_print_fields_with_no_presence=True, indent=2
    )
    path.write_text(text + "\n", encoding="utf-8")
    return path


def read_config(path: Path) -> job_event_pb2.TrainingConfig:
    """A `training_config.json`; fields of a newer version are left out. Raises OSError, ValueError."""
    config = job_event_pb2.TrainingConfig()
    try:
        return json_format.Parse(path.read_text(encoding="utf-8"), config, ignore_unknown_fields=True)
    except json_format.ParseError as error:
        raise ValueError(f"{path.name} cannot be read ({error})") from error
