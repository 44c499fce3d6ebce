"""The report of an adapter's training for people: one page of Markdown, `report.md`."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from trainer_node import config_words
from trainer_node.markdown import table
from tunesmith import preferences
from tunesmith import spec as job_spec
from tunesmith.v1 import job_event_pb2

_BARS = "▁▂▃▄▅▆▇█"
_COLUMNS = 60


@dataclass(frozen=True)
class PreviewFile:
    """A preview that the report tells of. path: relative to the output folder."""

    step: int
    prompt: str
    path: str


def write(path: Path, report: job_event_pb2.TrainingReport, previews: Sequence[PreviewFile]) -> Path:
    """The whole page."""
    config = report.config
    parts = [
        f"# Training report{f': {config.run_id}' if config.run_id else ''}",
        table("Result", _result(report)),
        _curve_section("Training loss", report.training_loss),
        _curve_section("Validation loss", report.validation_loss) if config.validation_samples else "",
        _previews_section(previews, from_adapter=bool(config.lineage)),
        table("Settings", _settings(config)),
        table("Data and base model", _origin(config)),
        table("Environment", {**dict(sorted(report.environment.items())), **dict(sorted(config.packages.items()))}),
    ]
    path.write_text("\n\n".join(part for part in parts if part) + "\n", encoding="utf-8")
    return path


def _result(report: job_event_pb2.TrainingReport) -> dict[str, str]:
    config = report.config
    held_out = config.validation_samples > 0
    unit = config_words.unit_of_loss(config)
    return {
        "Final training loss": f"{report.final_loss:.4f}{unit}",
        "Best validation loss" if held_out else "Loss at the end": (
            f"{report.best_loss:.4f}{unit}, at step {report.best_step}"
        ),
        **_final_metrics(report),
        "Adapter": f"of step {report.best_step}" + ("" if held_out else " (nothing was held out)"),
        "Steps": f"{report.steps} of {config.total_steps}" + (", stopped early" * report.stopped_early),
        "Epochs": f"{report.epochs:.2f}",
        "Data": config_words.data(config),
        "Training time": _duration(report.training_time_s),
        "Device": config.device,
    }


def _final_metrics(report: job_event_pb2.TrainingReport) -> dict[str, str]:
    """What the method has logged last, in training and of what was held out."""
    last = dict(sorted(report.final_metrics.items()))
    rows = {}
    for name in dict.fromkeys(name.removeprefix("eval_") for name in last):
        places = {name: "in training", f"eval_{name}": "in validation"}
        rows[f"{name}, last"] = ", ".join(f"{last[key]:.4f} {where}" for key, where in places.items() if key in last)
    return rows


def _settings(config: job_event_pb2.TrainingConfig) -> dict[str, str]:
    kind = job_spec.kind_of(config.spec)
    rows = {"kind": kind}
    return {**rows, **config_words.settings(getattr(config.spec, kind))} if kind else rows


def _origin(config: job_event_pb2.TrainingConfig) -> dict[str, str]:
    rows = {
        "lineage": config_words.lineage(config) if config.lineage else "",
        "derived": preferences.summary(config.derivation) if config.HasField("derivation") else "",
        "dataset_version_id": config.dataset_version_id,
        "dataset_digest": config.dataset_digest,
        "base_model_fingerprint": config.base_model_fingerprint,
        "attempt": str(config.attempt or ""),
    }
    return {name: value for name, value in rows.items() if value}


def _previews_section(previews: Sequence[PreviewFile], *, from_adapter: bool) -> str:
    if not previews:
        return ""
    lines = [f"- step {preview.step}: [{preview.prompt}]({preview.path})" for preview in previews]
    start = "adapter that the training started from" if from_adapter else "base model"
    return "\n".join(["## Previews", "", f"Step 0 is the {start}; the same seed throughout.", "", *lines])


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
