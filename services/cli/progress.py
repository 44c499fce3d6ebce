"""What is known about a run while it goes: step or clip, epoch, last metrics, speed, time left. No drawing here."""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tunesmith.v1.job_event_pb2 import MetricBatch
    from tunesmith.v1.run_pb2 import Run

SPEED_S = 30.0  # the speed is that of this many last seconds

# What a status line shows of the metrics, in its order, and by what word.
FIGURES = {
    "loss": "loss",
    "eval_loss": "val",
    "rewards/margin": "margin",
    "rewards/accuracy": "acc",
    "eval_rewards/accuracy": "val acc",
    "rank/kendall_tau": "tau",
    "eval_rank/kendall_tau": "val tau",
}
OPTIMISER = {"learning_rate": "lr", "grad_norm": "grad"}  # gives way where there are preferences to show
_VALIDATED = {
    "eval_loss": "loss",
    "eval_rewards/margin": "margin",
    "eval_rewards/accuracy": "accuracy",
    "eval_rank/kendall_tau": "Kendall tau",
    "eval_rank/pair_accuracy": "pair accuracy",
}
# Told with every step, and with nothing else: the clock of the speed.
_PACED = ("loss", "clips_per_s")
# Halves of a margin: told by `run metrics`, too many for a line.
DETAILS = ("rewards/chosen", "rewards/rejected", "logps/chosen", "logps/rejected")


class Row(NamedTuple):
    """One step's metrics."""

    step: int
    time_us: int
    values: dict[str, float]


def unit_of(run: Run) -> str:
    """What a step of a run is: `clip` for generate, else `step`."""
    return "clip" if run.spec.HasField("generate") else "step"


def rows_of(batch: MetricBatch) -> Iterator[Row]:
    """The rows of a packed batch."""
    width = len(batch.names)
    for index, step in enumerate(batch.steps):
        values = batch.values[index * width : (index + 1) * width]
        yield Row(step, batch.times_us[index], dict(zip(batch.names, values, strict=True)))


@dataclass
class Progress:
    """Fed with runs and rows; asked for what to show. unit: what a step is."""

    unit: str = "step"
    step: int = 0
    total_steps: int = 0
    total_epochs: int = 0
    state: str = ""
    reason: str = ""
    metrics: dict[str, float] = field(default_factory=dict)
    _loss_before: float = math.nan
    _pace: deque[tuple[float, int]] = field(default_factory=deque)

    def see_run(self, run: Run) -> None:
        """Take over what a run says about itself."""
        from services.cli.output import enum_text

        self.state, self.reason = enum_text(run, "state"), run.state_reason
        self.total_steps = run.total_steps or self.total_steps
        self.total_epochs = run.total_epochs or self.total_epochs
        self.step = max(self.step, run.step)

    def see_row(self, row: Row) -> None:
        """Take over one row of metrics. A later attempt may begin again at an earlier step."""
        is_paced = any(name in row.values for name in _PACED)
        if row.step < self.step and is_paced:
            self._pace.clear()
        if "loss" in row.values:
            self._loss_before = self.metrics.get("loss", math.nan)
        if is_paced:
            self._pace.append((row.time_us / 1e6, row.step))
            while self._pace[-1][0] - self._pace[0][0] > SPEED_S and len(self._pace) > 2:
                self._pace.popleft()
        self.step = row.step
        self.metrics.update(row.values)

    @property
    def share(self) -> float:
        """Done, 0 to 1."""
        return min(1.0, self.step / self.total_steps) if self.total_steps else 0.0

    @property
    def epoch(self) -> int:
        """The epoch that is running, from 1; 0 before the training has started."""
        if not (self.total_steps and self.total_epochs):
            return 0
        return max(1, math.ceil(self.share * self.total_epochs - 1e-9))

    @property
    def steps_per_s(self) -> float:
        """Speed of the last half minute, or else what the run says itself; 0 where it is not known yet."""
        if len(self._pace) < 2:
            return self.metrics.get("clips_per_s", 0.0)
        (first_s, first_step), (last_s, last_step) = self._pace[0], self._pace[-1]
        return (last_step - first_step) / (last_s - first_s) if last_s > first_s else 0.0

    @property
    def left_s(self) -> float | None:
        """Seconds until the last step at this speed; None where it is not known."""
        speed = self.steps_per_s
        return (self.total_steps - self.step) / speed if speed > 0 and self.total_steps else None

    @property
    def trend(self) -> str:
        """Where the loss went with the last row."""
        loss, before = self.metrics.get("loss", math.nan), self._loss_before
        return "↓" if loss < before else "↑" if loss > before else ""

    def facts(self) -> dict[str, str]:
        """What a status line shows, in its order."""
        shown = {}
        if self.epoch:
            shown["epoch"] = f"{self.epoch}/{self.total_epochs}"
        if self.total_steps:
            shown[self.unit] = f"{self.step}/{self.total_steps}"
        preferences = any("/" in name for name in self.metrics)
        for name, label in (FIGURES if preferences else FIGURES | OPTIMISER).items():
            if name in self.metrics:
                shown[label] = f"{self.metrics[name]:.{4 if 'loss' in name else 3}g}"
        if "loss" in shown and self.trend:
            shown["loss"] += f" {self.trend}"
        if self.steps_per_s:
            shown[f"{self.unit}s/s"] = f"{self.steps_per_s:.3g}"
        return shown


def validated(row: Row) -> str:
    """`validation at step 40: loss 0.612, accuracy 0.8`; empty for a row of a training step."""
    found = [f"{label} {row.values[name]:.4g}" for name, label in _VALIDATED.items() if name in row.values]
    return f"validation at step {row.step}: {', '.join(found)}" if found else ""


def clock(seconds: float) -> str:
    """Seconds as 0:07, 12:34 or 1:02:03."""
    minutes, second = divmod(round(seconds), 60)
    hours, minute = divmod(minutes, 60)
    return f"{hours}:{minute:02d}:{second:02d}" if hours else f"{minute}:{second:02d}"


def sparkline(values: list[float], width: int = 40) -> str:
    """A line of blocks, the mean of each stretch; `!` where a value is NaN or infinite."""
    if not values:
        return ""
    width = min(width, len(values))
    stretches = [values[len(values) * i // width : len(values) * (i + 1) // width] for i in range(width)]
    finite = [value for value in values if math.isfinite(value)]
    low, high = min(finite, default=0.0), max(finite, default=0.0)
    drawn = ""
    for stretch in stretches:
        mean = math.fsum(stretch) / len(stretch)
        level = (mean - low) / (high - low) if math.isfinite(mean) and high > low else 0.0
        drawn += "▁▂▃▄▅▆▇█"[min(7, int(level * 8))] if math.isfinite(mean) else "!"
    return drawn
