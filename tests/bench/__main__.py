"""`make bench`: measure this machine. Nothing passes or fails here; the figures are printed with the machine.

Absolute figures move with the machine and with what else it does; the ratios were each measured in one run.

`python -m tests.bench NAME …` runs some. Two take twenty minutes and more, and run only where they are named:
`python -m tests.bench language-quality --corpus-path PATH [--seeds 1 2] [--epochs 20] [--output FOLDER]`, and
`python -m tests.bench heard --output FOLDER [--write]`.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
import warnings
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

from services.logs import configure_logging
from tests.bench import (
    cached_features,
    dpo_reference,
    gradient_checkpointing,
    heard,
    ingest,
    language_model,
    language_quality,
    query,
    submission,
)
from tests.bench.figures import Figure, machine

Measure = Callable[[Path], AsyncIterator[Figure]]
QUALITY, HEARD = "language-quality", "heard"


def without_loop(measure: Callable[[Path], Iterator[Figure]]) -> Measure:
    """A bench that has nothing to wait for, as one of those that have."""

    async def figures(folder: Path) -> AsyncIterator[Figure]:
        for figure in measure(folder):
            yield figure

    return figures


BENCHES: dict[str, tuple[str, Measure]] = {
    "features": ("Training step", without_loop(cached_features.measure)),
    "reference": ("Training step on preference pairs", without_loop(dpo_reference.measure)),
    "checkpointing": ("Activations kept, or computed again", without_loop(gradient_checkpointing.measure)),
    "language-model": ("Training step of the language model", without_loop(language_model.measure)),
    "ingest": ("Telemetry", ingest.measure),
    "query": ("Curves", query.measure),
    "submission": ("Submission", submission.measure),
}


async def run(title: str, measure: Measure) -> None:
    """Run one bench in a folder of its own, and print its figures as they come."""
    print(f"\n{title}", flush=True)
    with tempfile.TemporaryDirectory(prefix="tunesmith-bench-") as folder:
        async for figure in measure(Path(folder)):
            print(figure, flush=True)


def chosen(arguments: Sequence[str]) -> dict[str, tuple[str, Measure]]:
    """The benches that a command line names, or all that can run."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description="Measure this machine.")
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join([*BENCHES, QUALITY, HEARD])}")
    parser.add_argument("--write", action="store_true", help="heard: write the figures into the page of the docs")
    quality = parser.add_argument_group(QUALITY)
    quality.add_argument(
        "--corpus-path", type=Path, action="append", default=[], help="text; may be given several times"
    )
    quality.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3, 4, 5])
    quality.add_argument("--epochs", type=int, help="fewer than the default, to try it")
    quality.add_argument("--output", type=Path, help="a folder that stays; finished trainings in it are not done again")
    given = parser.parse_args(arguments)
    benches = dict(BENCHES)
    if given.corpus_path:
        options = language_quality.Options(given.corpus_path, given.seeds, given.epochs, given.output)
        benches[QUALITY] = "What the language model learns", without_loop(partial(language_quality.measure, options))
    elif QUALITY in given.names:
        parser.error(f"{QUALITY} needs a text in English and Spanish; give --corpus-path PATH")
    if HEARD in given.names:
        if given.output is None:
            parser.error(f"{HEARD} keeps what it has trained; give --output FOLDER")
        benches[HEARD] = "What is heard", without_loop(lambda _: heard.measure(given.output, write=given.write))
    for name in given.names:
        if name not in benches:
            parser.error(f"there is no bench {name!r}; give one of {', '.join([*BENCHES, QUALITY, HEARD])}")
    return {name: benches[name] for name in given.names or benches}


def main(arguments: Sequence[str]) -> None:
    """Run the named benches, or all."""
    benches = chosen(arguments)
    configure_logging(as_json=True, level=30)
    warnings.filterwarnings("ignore", category=FutureWarning)
    print(machine())
    for title, measure in benches.values():
        asyncio.run(run(title, measure))


if __name__ == "__main__":
    main(sys.argv[1:])
