"""Showing how a micro model is made: a bar a phase on a terminal, lines elsewhere, and when all of it will be done."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

from services.cli.output import Output
from services.cli.progress import clock

Tell = Callable[[str, int, int, float], None]  # phase, step, steps, mean loss or NaN

# What a step takes of one core, measured: only how they compare matters.
STEP_S = {
    "plain": 0.35,
    "quantised": 0.42,
    "balanced": 0.42,
    "polish": 0.28,
    "encode": 0.011,
    "decoder": 0.21,
    "measure": 35.0,
}


class Course:
    """How far the whole is. steps: of each phase, in their order; now: the clock, in seconds."""

    def __init__(self, steps: Mapping[str, int], *, now: Callable[[], float] = time.monotonic) -> None:
        self._steps, self._now = steps, now
        self._begun_s = now()
        self._skipped: float | None = None  # what was done before, by an earlier start
        self._done = 0.0

    def see(self, phase: str, step: int) -> None:
        """A step of a phase is done, and so are all phases before it."""
        before = sum(self._cost(name) for name in list(self._steps)[: list(self._steps).index(phase)])
        self._skipped = before if self._skipped is None else self._skipped
        self._done = before + step * STEP_S[phase]

    @property
    def left_s(self) -> float | None:
        """Seconds until all is done, by how quickly it went until now; None where it is not known yet."""
        worked = self._done - (self._skipped or 0.0)
        if worked <= 0:
            return None
        rest = sum(map(self._cost, self._steps)) - self._done
        return rest * (self._now() - self._begun_s) / worked

    def _cost(self, phase: str) -> float:
        return self._steps[phase] * STEP_S[phase]


@contextmanager
def shown(out: Output, steps: Mapping[str, int]) -> Iterator[Tell]:
    """What to call while it is made."""
    course = Course(steps)
    if out.for_people:
        with _bars(out, course) as tell:
            yield tell
    else:
        yield _lines(out, course, list(steps))


@contextmanager
def _bars(out: Output, course: Course) -> Iterator[Tell]:
    from rich.progress import BarColumn, Progress, TaskID, TextColumn

    columns = (TextColumn("{task.description:<10}"), BarColumn(24), TextColumn("{task.fields[said]}"))
    tasks: dict[str, TaskID] = {}
    with Progress(*columns, console=out.console()) as progress:

        def tell(phase: str, step: int, steps: int, loss: float) -> None:
            course.see(phase, step)
            if phase not in tasks:
                tasks[phase] = progress.add_task(phase, total=steps, said="")
            said = f"{step}/{steps}" + ("" if math.isnan(loss) else f"  loss {loss:.4f}")
            left = "" if step == steps or course.left_s is None else f"  ETA {clock(course.left_s)}"
            progress.update(tasks[phase], completed=step, said=said + left)

        yield tell


def _lines(out: Output, course: Course, phases: list[str]) -> Tell:
    def tell(phase: str, step: int, steps: int, loss: float) -> None:
        course.see(phase, step)
        facts: dict[str, object] = {"phase": phase, "place": f"{phases.index(phase) + 1}/{len(phases)}"}
        facts |= {"step": step, "steps": steps} | ({} if math.isnan(loss) else {"loss": round(loss, 4)})
        left_s = round(course.left_s or 0.0)
        if out.format == "table":
            out.pairs((facts | {"eta": clock(left_s)}).items())
        elif out.format == "jsonl":
            out.document(facts | {"left_s": left_s})

    return tell
