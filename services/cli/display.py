"""Drawing a training as it goes: a live panel on a terminal, a line a row elsewhere.

Live drawing on anything but a terminal would print nothing until the end, so a pipe gets plain lines at once.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Protocol

from services.cli.output import Output, enum_text, text_of
from services.cli.progress import DETAILS, Progress, Row, clock, rows_of, unit_of, validated
from services.cli.terminal import escape

if TYPE_CHECKING:
    from rich.console import RenderableType

    from tunesmith.v1.job_event_pb2 import JobStarted, MetricBatch
    from tunesmith.v1.model_pb2 import Model
    from tunesmith.v1.run_pb2 import Run

REDRAWS_PER_S = 8


class Display(Protocol):
    """What follows a training on the screen."""

    def run(self, run: Run) -> None:
        """The run has changed."""

    def metrics(self, batch: MetricBatch) -> None:
        """New rows."""

    def say(self, text: str) -> None:
        """A line for a person, beside the figures."""

    def __enter__(self) -> Display: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


class LineDisplay:
    """One `key=value` line a change of state, and one a row of metrics. unit: what a step is."""

    def __init__(self, out: Output, *, unit: str = "step") -> None:
        self._out = out
        self._progress = Progress(unit=unit)
        self._said = ("", "", 0)

    def run(self, run: Run) -> None:
        """Print the state, where it is new."""
        self._progress.see_run(run)
        said = (self._progress.state, run.state_reason, run.attempt)
        if said != self._said:
            self._said = said
            facts = [("run_id", run.run_id), ("state", said[0]), ("attempt", run.attempt), ("reason", said[1])]
            self._out.pairs((key, value) for key, value in facts if value)

    def metrics(self, batch: MetricBatch) -> None:
        """Print every row."""
        for row in rows_of(batch):
            self._progress.see_row(row)
            self._out.pairs(row_facts(row, self._progress))

    def say(self, text: str) -> None:
        """Print it to stderr."""
        self._out.note(text)

    def __enter__(self) -> LineDisplay:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


def run_of(started: JobStarted) -> Run:
    """A training in the foreground as a display knows it: a run that trains, without an id."""
    from tunesmith.v1 import run_pb2

    return run_pb2.Run(
        state=run_pb2.RUN_STATE_RUNNING,
        step=started.resumed_step,
        total_steps=started.total_steps,
        total_epochs=started.total_epochs,
    )


def row_facts(row: Row, progress: Progress) -> list[tuple[str, object]]:
    """What a plain line says about a row."""
    where: list[tuple[str, object]] = [(progress.unit, row.step)]
    if progress.total_steps:
        where.append((f"total_{progress.unit}s", progress.total_steps))
    if progress.epoch:
        where.append(("epoch", f"{progress.epoch}/{progress.total_epochs}"))
    left_out = ("epoch", *DETAILS, *(f"eval_{name}" for name in DETAILS))
    return where + [(name, value) for name, value in row.values.items() if name not in left_out]


class LiveDisplay:
    """A bar and a line of figures that stay in place; what is printed meanwhile scrolls above them.

    tells_validations: keep a line of each; not where the training itself tells its epochs. unit: what a step is.
    """

    def __init__(self, out: Output, title: str, *, tells_validations: bool = True, unit: str = "step") -> None:
        from rich.live import Live

        self._title = title
        self._tells_validations = tells_validations
        self._progress = Progress(unit=unit)
        self._begun_at: int | None = None  # the step when this began to follow; what was validated before is history
        console = out.console()
        self._live = Live(
            console=console,
            get_renderable=self._drawn,
            refresh_per_second=REDRAWS_PER_S,
            redirect_stdout=out.stdout is None,
            redirect_stderr=out.stderr is None,
        )

    def run(self, run: Run) -> None:
        """Show the state."""
        self._begun_at = run.step if self._begun_at is None else self._begun_at
        self._progress.see_run(run)

    def metrics(self, batch: MetricBatch) -> None:
        """Show the last row; what a validation has found stays above the bar."""
        for row in rows_of(batch):
            self._progress.see_row(row)
            is_new = self._tells_validations and self._begun_at is not None and row.step > self._begun_at
            if is_new and (found := validated(row)):
                self.say(found)

    def say(self, text: str) -> None:
        """Print a line above the bar."""
        self._live.console.print(escape(text))

    def retitle(self, title: str) -> None:
        """Name what is worked on."""
        self._title = title

    def _drawn(self) -> RenderableType:
        from rich.console import Group
        from rich.progress_bar import ProgressBar
        from rich.table import Table
        from rich.text import Text

        progress = self._progress
        head = Table.grid(padding=(0, 2), expand=False)
        head.add_column(overflow="ellipsis", max_width=30)  # the title gives way, the figures stay
        for _ in range(4):
            head.add_column(no_wrap=True)
        waiting = not progress.total_steps and progress.state not in ("SUCCEEDED", "FAILED", "CANCELLED")
        bar = ProgressBar(total=1.0, completed=progress.share, width=18, pulse=waiting)
        percent = f"{progress.share:4.0%}" if progress.total_steps else "    "
        left = f"ETA {clock(progress.left_s)}" if progress.left_s else ""
        state = Text(progress.state, style="cyan")
        title = Text(escape(self._title), style="bold", no_wrap=True, overflow="ellipsis")
        head.add_row(title, bar, Text(percent), state, Text(left, style="dim"))
        figures = Text("  ", no_wrap=True, overflow="ellipsis")
        for key, value in progress.facts().items():
            figures.append(f"{key} ", style="dim").append(f"{value}  ")
        if waiting and progress.reason:
            figures.append(escape(progress.reason), style="dim")
        return Group(head, figures)

    def __enter__(self) -> LiveDisplay:
        self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._live.stop()


def display_for(out: Output, title: str, *, tells_validations: bool = True, unit: str = "step") -> Display:
    """The display that fits where the command writes."""
    if out.for_people:
        return LiveDisplay(out, title, tells_validations=tells_validations, unit=unit)
    return LineDisplay(out, unit=unit)


def show_outcome(out: Output, run: Run, model: Model | None = None) -> None:
    """The last words about a run that has ended: what came of it, and what to do next. model: what it has made."""
    if out.format != "table":
        return
    state, plays = enum_text(run, "state"), unit_of(run) == "clip"
    done = ("clips" if plays else "step", run.step)
    facts = [("run_id", run.run_id), ("state", state), done, ("adapter_id", run.adapter_id)]
    if model:
        facts += [("model", f"{model.name}@{model.version}"), ("best_loss", model.best_loss)]
    elif run.HasField("final_loss"):
        facts.append(("final_loss", run.final_loss))
    out.pairs((key, value) for key, value in facts if text_of(value))
    listening = [f"tunesmith run previews {run.run_id} --to DIR"] if plays and run.step else []
    if state == "SUCCEEDED":
        out.note(_next(listening if plays else [f"tunesmith run report {run.run_id}", *_uses(run, model)]))
    elif state == "FAILED":
        failure = run.failure
        for line in failure.stderr_tail.splitlines()[-20:]:
            if line != f"{failure.reason}: {failure.message}":
                print(f"  | {escape(line)}", file=sys.stderr)
        print(f"error[{failure.reason}]: {escape(failure.message)}", file=sys.stderr)
        resuming = [
            f"tunesmith run checkpoints {run.run_id}   # and where there is one:",
            f"tunesmith run resume {run.run_id}",
        ]
        after = listening if plays else resuming if run.step else []
        out.note(_next([f"tunesmith run logs {run.run_id}", *after]))
    elif state == "CANCELLED" and not plays:
        out.note(f"next: tunesmith run resume {run.run_id}")
    elif state == "CANCELLED":
        out.note(_next([*listening, "submit it again to play the rest: the same settings give the same clips"]))


def _next(commands: Sequence[str]) -> str:
    """What to type next, a line each."""
    return "next: " + "\n      ".join(commands)


def _uses(run: Run, model: Model | None) -> list[str]:
    """What to type to use what a run has made."""
    if not model:
        return [f"tunesmith adapter pull {run.adapter_id}"]
    from services.cli.lm_use import command_to_try

    downloaded = f"{model.name}-v{model.version}"
    return [f"tunesmith model download {model.name}@{model.version}", command_to_try(downloaded)]
