"""The report of a training: one message, for programs as JSON and for people as Markdown."""

from __future__ import annotations

import importlib.metadata
import itertools
import math
import os
import platform
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from google.protobuf import json_format
from google.protobuf.message import Message

from tunesmith import spec as job_spec
from tunesmith.v1 import job_event_pb2

PACKAGES = ("tunesmith", "torch", "transformers", "peft", "accelerate", "safetensors", "numpy", "soundfile", "soxr")
MAX_POINTS = 1000  # of a curve in a report; telemetry has every point
_BARS = "▁▂▃▄▅▆▇█"
_COLUMNS = 60


@dataclass(frozen=True)
class PreviewFile:
    """A preview that the report tells of. path: relative to the output folder."""

    step: int
    prompt: str
    path: str


def packages() -> dict[str, str]:
    """Versions of what takes part in a training."""
    found = {}
    for name in PACKAGES:
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


def write_markdown(path: Path, report: job_event_pb2.TrainingReport, previews: Sequence[PreviewFile]) -> Path:
    """The report for people."""
    config = report.config
    held_out = config.validation_samples > 0
    parts = [
        f"# Training report{f': {config.run_id}' if config.run_id else ''}",
        _table(
            "Result",
            {
                "Final training loss": f"{report.final_loss:.4f} nats a token",
                "Best validation loss" if held_out else "Loss at the end": (
                    f"{report.best_loss:.4f} nats a token, at step {report.best_step}"
                ),
                "Adapter": f"of step {report.best_step}" + ("" if held_out else " (nothing was held out)"),
                "Steps": f"{report.steps} of {config.total_steps}" + (", stopped early" * report.stopped_early),
                "Epochs": f"{report.epochs:.2f}",
                "Samples": f"{config.training_samples} trained on, {config.validation_samples} held out",
                "Training time": _duration(report.training_time_s),
                "Device": config.device,
            },
        ),
        _curve_section("Training loss", report.training_loss),
        _curve_section("Validation loss", report.validation_loss) if held_out else "",
        _previews_section(previews),
        _table("Settings", _settings(config)),
        _table("Data and base model", _origin(config)),
        _table("Environment", {**dict(sorted(report.environment.items())), **dict(sorted(config.packages.items()))}),
    ]
    path.write_text("\n\n".join(part for part in parts if part) + "\n", encoding="utf-8")
    return path


def _table(title: str, rows: dict[str, str]) -> str:
    lines = [f"| {name} | {value.replace('|', chr(92) + '|')} |" for name, value in rows.items()]
    return "\n".join([f"## {title}", "", "| | |", "| --- | --- |", *lines])


def _settings(config: job_event_pb2.TrainingConfig) -> dict[str, str]:
    kind = job_spec.kind_of(config.spec)
    rows = {"kind": kind}
    if not kind:
        return rows
    body = getattr(config.spec, kind)
    for path, field in job_spec.settings(body.DESCRIPTOR):
        holder = body
        for name in path.split(".")[:-1]:
            holder = getattr(holder, name)
        value = getattr(holder, field.name)
        if field.enum_type:
            value = field.enum_type.values_by_number[value].name
        rows[path] = ", ".join(map(repr, value)) if field.is_repeated else f"{value}"
    return rows


def _origin(config: job_event_pb2.TrainingConfig) -> dict[str, str]:
    rows = {
        "dataset_version_id": config.dataset_version_id,
        "dataset_digest": config.dataset_digest,
        "base_model_fingerprint": config.base_model_fingerprint,
        "attempt": str(config.attempt or ""),
    }
    return {name: value for name, value in rows.items() if value}


def _previews_section(previews: Sequence[PreviewFile]) -> str:
    if not previews:
        return ""
    lines = [f"- step {preview.step}: [{preview.prompt}]({preview.path})" for preview in previews]
    return "\n".join(["## Previews", "", "Step 0 is the base model; the same seed throughout.", "", *lines])


def _curve_section(title: str, points: job_event_pb2.Curve) -> str:
    if not points.values:
        return ""
    first, last = points.steps[0], points.steps[-1]
    scale = f"{max(points.values):.4f} (highest) … {min(points.values):.4f} (lowest)"
    ends = f"step {first}: {points.values[0]:.4f}, step {last}: {points.values[-1]:.4f}"
    return f"## {title}\n\n```\n{sparkline(points.values)}\n```\n\n{ends}; {scale}"


def sparkline(values: Sequence[float]) -> str:
    """A curve as a line of bars, at most 60 of them; a value that is not finite is shown as a gap."""
    groups = min(_COLUMNS, len(values))
    bounds = [round(i * len(values) / groups) for i in range(groups + 1)]
    means = [_mean(values[a:b]) for a, b in itertools.pairwise(bounds)]
    finite = [mean for mean in means if math.isfinite(mean)]
    if not finite:
        return " " * groups
    low, span = min(finite), (max(finite) - min(finite)) or 1.0
    top = len(_BARS) - 1
    return "".join(_BARS[round((mean - low) / span * top)] if math.isfinite(mean) else " " for mean in means)


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def _duration(seconds: float) -> str:
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"
