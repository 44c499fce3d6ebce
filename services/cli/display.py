"""Drawing a training as it goes: a live panel on a terminal, a line a row elsewhere.

Live drawing on anything but a terminal would print nothing until the end, so a pipe gets plain lines at once.
"""

from __future__ import annotations

import sys
from types import TracebackType
from typing import TYPE_CHECKING, Protocol

from services.cli.output import Output, enum_text, text_of
from services.cli.progress import Progress, Row, clock, rows_of
from services.cli.terminal import escape

if TYPE_CHECKING:
    from rich.console import RenderableType

    from tunesmith.v1.job_event_pb2 import MetricBatch
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
    """One `key=value` line a change of state, and one a row of metrics."""

    def __init__(self, out: Output) -> None:
        self._out = out
        self._progress = Progress()
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


def row_facts(row: Row, progress: Progress) -> list[tuple[str, object]]:
    """What a plain line says about a row."""
    where: list[tuple[str, object]] = [("step", row.step)]
    if progress.total_steps:
        where.append(("total_steps", progress.total_steps))
    if progress.epoch:
        where.append(("epoch", f"{progress.epoch}/{progress.total_epochs}"))
    return where + [(name, value) for name, value in row.values.items() if name != "epoch"]


class LiveDisplay:
    """A bar and a line of figures that stay in place; what is printed meanwhile scrolls above them."""

    def __init__(self, out: Output, title: str) -> None:
        from rich.live import Live

        self._title = title
        self._progress = Progress()
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
        self._progress.see_run(run)

    def metrics(self, batch: MetricBatch) -> None:
        """Show the last row."""
        for row in rows_of(batch):
            self._progress.see_row(row)

    def say(self, text: str) -> None:
        """Print a line above the bar."""
        self._live.console.print(escape(text))

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


def display_for(out: Output, title: str) -> Display:
    """The display that fits where the command writes."""
    return LiveDisplay(out, title) if out.for_people else LineDisplay(out)


def show_outcome(out: Output, run: Run) -> None:
    """The last words about a run that has ended: what came of it, and what to do next."""
    if out.format != "table":
        return
    state = enum_text(run, "state")
    facts = [("run_id", run.run_id), ("state", state), ("step", run.step), ("adapter_id", run.adapter_id)]
    if run.HasField("final_loss"):
        facts.append(("final_loss", run.final_loss))
    out.pairs((key, value) for key, value in facts if text_of(value))
    if state == "SUCCEEDED":
        out.note(f"next: tunesmith run report {run.run_id}\n      tunesmith adapter pull {run.adapter_id}")
    elif state == "FAILED":
        for line in run.failure.stderr_tail.splitlines()[-20:]:
            print(f"  | {escape(line)}", file=sys.stderr)
        print(f"error[{run.failure.reason}]: {escape(run.failure.message)}", file=sys.stderr)
        out.note(
            f"next: tunesmith run logs {run.run_id}\n"
            f"      tunesmith run checkpoints {run.run_id}   # and where there is one:\n"
            f"      tunesmith run resume {run.run_id}"
        )
    elif state == "CANCELLED":
        out.note(f"next: tunesmith run resume {run.run_id}")
