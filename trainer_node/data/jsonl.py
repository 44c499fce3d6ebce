"""Data set files: the JSONL or CSV that a user writes, and the JSONL export of a frozen version.

A user's file is read to its end whatever is wrong with it, and every problem of every row is told at once as
`file:line: what, and what to do`; a file with one problem gives no rows at all. An export was written by the control
plane and named by its digest, so the first deviation ends the reading.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from trainer_node.data.rated_records import Gathered, records
from trainer_node.data.rated_rows import CheckedRow, DatasetFileInvalid, RatedRow, RowProblem, check_row
from trainer_node.data.refusals import AudioRefused
from trainer_node.errors import DataInvalid
from trainer_node.training import TrainingSample
from tunesmith import spec
from tunesmith.v1 import dataset_pb2

__all__ = [
    "DatasetFileInvalid",
    "FrozenSample",
    "RatedRow",
    "RowProblem",
    "digest_of",
    "frozen_training_samples",
    "read_export",
    "read_rated_file",
    "training_samples",
]

_EXPORT_KEYS = {"audio_digest", "duration_s", "prompt", "rating", "tags"}


@dataclass(frozen=True)
class FrozenSample:
    """One line of the export of a dataset version."""

    prompt: str
    audio_digest: str
    rating: float
    tags: Mapping[str, str]
    duration_s: float


def read_export(data: bytes) -> list[FrozenSample]:
    """The samples of a dataset version, in its order. Raises DataInvalid naming the first line that is wrong."""
    if data and not data.endswith(b"\n"):
        raise DataInvalid("the data set ends in the middle of a line; fetch it again")
    samples = []
    for number, line in enumerate(data.split(b"\n")[:-1], start=1):
        try:
            samples.append(_frozen(json.loads(line)))
        except (ArithmeticError, RecursionError, TypeError, ValueError) as error:
            raise DataInvalid(f"line {number} of the data set: {error}; freeze a new version", line=number) from error
    if not samples:
        raise DataInvalid("the data set has no samples; freeze a version with some")
    return samples


def _frozen(record: object) -> FrozenSample:
    if not isinstance(record, dict) or set(record) != _EXPORT_KEYS:
        raise ValueError(f"must be an object with the keys {', '.join(sorted(_EXPORT_KEYS))}")
    duration_s = record["duration_s"]
    problems = spec.check(dataset_pb2.Sample(**record))  # TypeError and ValueError where a value is of another type
    if problems:
        raise ValueError(str(problems[0]))
    if not math.isfinite(duration_s) or duration_s <= 0:
        raise ValueError(f"duration_s is {duration_s}, not above 0")
    return FrozenSample(**{**record, "rating": float(record["rating"])})


def frozen_training_samples(samples: Iterable[FrozenSample], audio_path: Callable[[str], Path]) -> list[TrainingSample]:
    """What an engine is given of a dataset version. audio_path: from a digest to the local file that has it."""
    return [
        TrainingSample(
            prompt=s.prompt, audio_path=audio_path(s.audio_digest), audio_digest=s.audio_digest, rating=s.rating
        )
        for s in samples
    ]


def training_samples(rows: Sequence[RatedRow], *, min_rating: float | None = None) -> list[TrainingSample]:
    """What an engine is given of a user's file: the rows rated `min_rating` or more, their audio hashed.

    Raises DataInvalid where no row is rated so high.
    """
    chosen = [row for row in rows if min_rating is None or row.rating >= min_rating]
    if not chosen:
        highest = max((row.rating for row in rows), default=0)
        raise DataInvalid(f"no clip is rated {min_rating:g} or more; lower min_rating, the highest is {highest:g}")
    digests = {path: digest_of(path) for path in {row.audio_path for row in chosen}}
    return [
        TrainingSample(prompt=r.prompt, audio_path=r.audio_path, audio_digest=digests[r.audio_path], rating=r.rating)
        for r in chosen
    ]


def digest_of(path: Path) -> str:
    """SHA-256 of a file, read in chunks."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_rated_file(
    path: Path,
    *,
    audio_folder: Path | None = None,
    check_audio: bool = True,
    on_audio: Callable[[int, int], None] | None = None,
) -> list[RatedRow]:
    """Every row of a JSONL or CSV file, or DatasetFileInvalid with every problem of every row.

    audio_folder: where relative audio paths start and all audio must lie; by default the folder of the file.
    check_audio: decode each clip to its end (see `inspect_audio`); otherwise only that the files are there.
    on_audio: called with (clips decoded, clips in all), for a progress bar.
    """
    gathered = Gathered(str(path))
    folder = audio_folder or path.parent
    rows = [(line, check_row(record, line=line, folder=folder)) for line, record in records(path, gathered)]
    refused = _refused_audio([checked for _, checked in rows], on_audio) if check_audio else {}
    seen: dict[tuple[Path, str], int] = {}
    passed = []
    for line, checked in rows:
        for what in [*checked.problems, *refused.get(checked.audio_path, ())]:
            gathered.add(line, what)
        if checked.row is not None:
            first = seen.setdefault((checked.row.audio_path, checked.row.prompt), line)
            if first != line:
                gathered.add(line, f"the same clip and prompt as line {first}; remove one of them")
            passed.append(checked.row)
    if not rows and not gathered.problems:
        gathered.add(0, "the file has no rows; write one for each clip")
    if gathered.problems:
        raise DatasetFileInvalid(sorted(gathered.problems, key=lambda problem: problem.line))
    return passed


def _refused_audio(
    rows: Sequence[CheckedRow], on_audio: Callable[[int, int], None] | None
) -> dict[Path | None, list[str]]:
    """What is wrong with the sound files, by path; each is decoded once."""
    from trainer_node.data.audio import inspect_audio  # numpy and the decoders: only for who has them and wants them

    paths = sorted({row.audio_path for row in rows if row.audio_path is not None})
    refused: dict[Path | None, list[str]] = {}
    for number, path in enumerate(paths, start=1):
        try:
            inspect_audio(path)
        except AudioRefused as error:
            refused[path] = [f"audio {path.name!r}: {error}"]
        if on_audio:
            on_audio(number, len(paths))
    return refused
