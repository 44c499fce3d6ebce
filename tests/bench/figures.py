"""What a bench says: sentences with a figure, and the machine they were measured on."""

from __future__ import annotations

import os
import platform
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from time import perf_counter


@dataclass(frozen=True)
class Limit:
    """What was promised of a figure. promised: in words, with its unit; kept: whether the figure is within it."""

    promised: str
    kept: bool

    def __str__(self) -> str:
        return f", promised {self.promised}" + ("" if self.kept else ": NOT KEPT")


def at_least(value: float, least: float, written: str = "{:g}") -> Limit:
    """A lower limit. written: how to print it, such as `{:g} ×`."""
    return Limit(f"at least {written.format(least)}", value >= least)


def at_most(value: float, most: float, written: str = "{:g}") -> Limit:
    """An upper limit."""
    return Limit(f"at most {written.format(most)}", value <= most)


def below(value: float, bound: float, written: str = "{:g}") -> Limit:
    """An upper limit that is not to be reached. A loss that is no number is below nothing."""
    return Limit(f"below {written.format(bound)}", value < bound)


@dataclass(frozen=True)
class Figure:
    """One measured value.

    what: of what; value: as it is printed, with its unit; how: what it is compared with; limit: what was promised.
    """

    what: str
    value: str
    how: str = ""
    limit: Limit | None = None

    def __str__(self) -> str:
        return f"  {self.what:<58} {self.value:>16}{self.limit or ''}   {self.how}".rstrip()


def machine() -> str:
    """Cores, processor and versions, in a line."""
    names = [line.partition(":")[2].strip() for line in _cpu_facts() if line.startswith("model name")]
    versions = ", ".join(f"{name} {metadata.version(name)}" for name in ("torch", "grpcio", "psycopg"))
    processor = names[0] if names else platform.machine()
    return f"{os.cpu_count()} cores, {processor}; Python {platform.python_version()}, {versions}"


def _cpu_facts() -> Sequence[str]:
    path = Path("/proc/cpuinfo")
    return path.read_text().splitlines() if path.exists() else ()


def median_s(action: Callable[[], object], *, times: int) -> float:
    """Median seconds of `times` calls, after one that does not count."""
    action()
    taken = []
    for _ in range(times):
        begun = perf_counter()
        action()
        taken.append(perf_counter() - begun)
    return statistics.median(taken)
