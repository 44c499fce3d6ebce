"""`make bench`: measure this machine. Nothing passes or fails here; the figures are printed with the machine.

Absolute figures move with the machine and with what else it does; the ratios were each measured in one run.
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
import warnings
from collections.abc import AsyncIterator
from pathlib import Path

from services.logs import configure_logging
from tests.bench import cached_features, ingest, query, submission
from tests.bench.figures import Figure, machine


async def cached(folder: Path) -> AsyncIterator[Figure]:
    """The only bench that needs no loop."""
    for figure in cached_features.measure(folder):
        yield figure


BENCHES = {
    "features": ("Training step", cached),
    "ingest": ("Telemetry", ingest.measure),
    "query": ("Curves", query.measure),
    "submission": ("Submission", submission.measure),
}


async def run(name: str) -> None:
    """Run one bench in a folder of its own, and print its figures as they come."""
    title, measure = BENCHES[name]
    print(f"\n{title}", flush=True)
    with tempfile.TemporaryDirectory(prefix="tunesmith-bench-") as folder:
        async for figure in measure(Path(folder)):
            print(figure, flush=True)


def main(names: list[str]) -> None:
    """Run the named benches, or all."""
    configure_logging(as_json=True, level=30)
    warnings.filterwarnings("ignore", category=FutureWarning)
    print(machine())
    for name in names or BENCHES:
        asyncio.run(run(name))


if __name__ == "__main__":
    main(sys.argv[1:])
