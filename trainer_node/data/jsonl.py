"""Data set files: the JSONL or CSV that a user writes, with rated clips, pairs and ranked lists.

A row is told by its keys: `audio`, `prompt`, `rating` (and `tags`); `prompt`, `chosen`, `rejected`; or `prompt`,
`ranked`. A file is read to its end whatever is wrong with it, and every problem of every row is told at once as
`file:line: what, and what to do`; a file with one problem gives no rows at all.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from trainer_node.data.comparison_rows import CheckedComparison, ComparisonRow, check_comparison, is_comparison
from trainer_node.data.rated_records import Gathered, records
from trainer_node.data.rated_rows import CheckedRow, RatedRow, check_row
from trainer_node.data.refusals import AudioRefused
from trainer_node.data.row_values import DatasetFileInvalid, RowProblem
from trainer_node.errors import DataInvalid
from trainer_node.training import TrainingSample

__all__ = [
    "ComparisonRow",
    "DatasetFile",
    "DatasetFileInvalid",
    "RatedRow",
    "RowProblem",
    "digest_of",
    "read_dataset_file",
    "read_rated_file",
    "training_samples",
]

Checked = CheckedRow | CheckedComparison


@dataclass(frozen=True)
class DatasetFile:
    """What a file holds, each kind of row in its order. digests: SHA-256 of every audio file in it, by path."""

    rated: Sequence[RatedRow]
    comparisons: Sequence[ComparisonRow]
    digests: Mapping[Path, str]


def read_dataset_file(
    path: Path,
    *,
    audio_folder: Path | None = None,
    check_audio: bool = True,
    on_audio: Callable[[int, int], None] | None = None,
) -> DatasetFile:
    """Every row of a JSONL or CSV file, or DatasetFileInvalid with every problem of every row.

    audio_folder: where relative audio paths start and all audio must lie; by default the folder of the file.
    check_audio: decode each clip to its end (see `inspect_audio`); otherwise only that the files are there.
    on_audio: called with (clips decoded, clips in all), for a progress bar.
    """
    gathered = Gathered(str(path))
    folder = audio_folder or path.parent
    rows = [(line, _check(record, line, folder)) for line, record in records(path, gathered)]
    audio = sorted({audio_path for _, checked in rows for audio_path in checked.audio_paths})
    refused = _refused_audio(audio, on_audio) if check_audio else {}
    digests = _digests(audio, refused)
    for line, checked in rows:
        for audio_path in checked.audio_paths:
            checked.problems += refused.get(audio_path, ())
        if isinstance(checked, CheckedComparison):
            checked.problems += checked.same_sound(digests)
        for what in checked.problems:
            gathered.add(line, what)
    rated = [checked.row for _, checked in rows if isinstance(checked, CheckedRow) and checked.row is not None]
    _tell_doubles(rated, digests, gathered)
    if not rows and not gathered.problems:
        gathered.add(0, "the file has no rows; write one for each clip")
    if gathered.problems:
        raise DatasetFileInvalid(sorted(gathered.problems, key=lambda problem: problem.line))
    compared = [checked.row for _, checked in rows if isinstance(checked, CheckedComparison)]
    return DatasetFile(rated, [row for row in compared if row is not None], digests)


def read_rated_file(
    path: Path,
    *,
    audio_folder: Path | None = None,
    check_audio: bool = True,
    on_audio: Callable[[int, int], None] | None = None,
) -> Sequence[RatedRow]:
    """The rows of a file of rated clips alone; see `read_dataset_file`. A comparison in it is a problem."""
    file = read_dataset_file(path, audio_folder=audio_folder, check_audio=check_audio, on_audio=on_audio)
    if file.comparisons:
        what = "a comparison where rated clips are wanted; give audio, prompt and rating, or train dpo or ranking"
        raise DatasetFileInvalid([RowProblem(str(path), row.line, what) for row in file.comparisons])
    return file.rated


def _check(record: Mapping[str, object], line: int, folder: Path) -> Checked:
    if is_comparison(record):
        return check_comparison(record, line=line, folder=folder)
    return check_row(record, line=line, folder=folder)


def _tell_doubles(rated: Iterable[RatedRow], digests: Mapping[Path, str], gathered: Gathered) -> None:
    """One sound has one rating for a prompt, whatever its file is called; the second would be lost in silence."""
    seen: dict[tuple[str, str], RatedRow] = {}
    for row in rated:
        first = seen.setdefault((digests.get(row.audio_path, str(row.audio_path)), row.prompt), row)
        if first is row:
            continue
        if first.audio_path == row.audio_path:
            gathered.add(row.line, f"the same clip and prompt as line {first.line}; remove one of them")
        else:
            name = f"{first.audio_path.name} in line {first.line}"
            gathered.add(row.line, f"{row.audio_path.name} is the same sound as {name}, of the same prompt; remove one")


def _refused_audio(paths: Sequence[Path], on_audio: Callable[[int, int], None] | None) -> dict[Path, list[str]]:
    """What is wrong with the sound files, by path; each is decoded once."""
    from trainer_node.data.audio import inspect_audio  # numpy and the decoders: only for who has them and wants them

    refused: dict[Path, list[str]] = {}
    for number, path in enumerate(paths, start=1):
        try:
            inspect_audio(path)
        except AudioRefused as error:
            refused[path] = [f"audio {path.name!r}: {error}"]
        if on_audio:
            on_audio(number, len(paths))
    return refused


def _digests(paths: Iterable[Path], refused: dict[Path, list[str]]) -> dict[Path, str]:
    """The digests of the files that can be read; what cannot be is added to `refused`."""
    digests = {}
    for path in paths:
        try:
            digests[path] = digest_of(path)
        except OSError as error:
            refused.setdefault(path, [f"audio {path.name!r} cannot be read ({error}); check its permissions"])
    return digests


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
