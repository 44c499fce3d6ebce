"""What `tunesmith dataset import` does before it asks the server: read the file, check every row, hash every clip.

Nothing is sent from here. A file of any number of rows is imported whole or not at all: every rule that the server has
is checked here first, for all rows, before the first batch is sent; the server checks again.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from trainer_node.data.jsonl import ComparisonRow, RatedRow, RowProblem, read_dataset_file
from tunesmith.v1 import dataset_pb2

BATCH_ROWS = 1_000  # the most samples of one AddSamples, and comparisons of one AddComparisons

_Prepared = TypeVar("_Prepared")


@dataclass(frozen=True)
class PreparedRow:
    """A checked row of a rated clip with the name that its audio will have. digest: SHA-256 of the file."""

    row: RatedRow
    digest: str

    def sample(self) -> dataset_pb2.Sample:
        """The row as AddSamples takes it."""
        row = self.row
        return dataset_pb2.Sample(prompt=row.prompt, audio_digest=self.digest, rating=row.rating, tags=row.tags)


@dataclass(frozen=True)
class PreparedComparison:
    """A checked row that compares clips. digests: SHA-256 of their files, in the order of the row."""

    row: ComparisonRow
    digests: tuple[str, ...]

    def comparison(self) -> dataset_pb2.Comparison:
        """The row as AddComparisons takes it."""
        clips = [
            dataset_pb2.RankedClip(audio_digest=digest, rank=rank)
            for digest, (_, rank) in zip(self.digests, self.row.clips, strict=True)
        ]
        return dataset_pb2.Comparison(prompt=self.row.prompt, clips=clips)


@dataclass(frozen=True)
class PreparedImport:
    """A whole data set file, ready to be sent.

    rows, comparisons: in the order of the file. audio_files: what to upload, by digest; clips with the same bytes are
    one file. size_bytes: of all of these together.
    """

    file: Path
    rows: tuple[PreparedRow, ...]
    comparisons: tuple[PreparedComparison, ...]
    audio_files: Mapping[str, Path]
    size_bytes: int

    def batches(self, rows: int = BATCH_ROWS) -> Iterator[tuple[PreparedRow, ...]]:
        """The rated rows in the order of the file, at most `rows` at a time."""
        return _in_batches(self.rows, rows)

    def comparison_batches(self, rows: int = BATCH_ROWS) -> Iterator[tuple[PreparedComparison, ...]]:
        """The comparisons in the order of the file, at most `rows` at a time."""
        return _in_batches(self.comparisons, rows)

    def problem(self, prepared: PreparedRow | PreparedComparison, what: str) -> RowProblem:
        """What the server found wrong with a row, told as `file:line: what`."""
        return RowProblem(str(self.file), prepared.row.line, what)


def prepare_import(
    path: Path,
    *,
    audio_folder: Path | None = None,
    check_audio: bool | None = None,
    on_audio: Callable[[int, int], None] | None = None,
) -> PreparedImport:
    """Read and check a JSONL or CSV file and hash its audio. Raises DatasetFileInvalid with every problem at once.

    audio_folder, on_audio: see `read_dataset_file`. check_audio: whether to decode every clip here; by default where
    the decoders are installed. Without them the server is the first to look into the clips.
    """
    if check_audio is None:
        check_audio = all(importlib.util.find_spec(module) for module in ("numpy", "soundfile", "soxr"))
    read = read_dataset_file(path, audio_folder=audio_folder, check_audio=check_audio, on_audio=on_audio)
    digests = read.digests
    rows = tuple(PreparedRow(row, digests[row.audio_path]) for row in read.rated)
    audio_files = {digest: audio_path for audio_path, digest in digests.items()}
    return PreparedImport(
        file=path,
        rows=rows,
        comparisons=tuple(
            PreparedComparison(row, tuple(digests[clip] for clip, _ in row.clips)) for row in read.comparisons
        ),
        audio_files=audio_files,
        size_bytes=sum(audio_path.stat().st_size for audio_path in audio_files.values()),
    )


def _in_batches(prepared: Sequence[_Prepared], most: int) -> Iterator[tuple[_Prepared, ...]]:
    for start in range(0, len(prepared), most):
        yield tuple(prepared[start : start + most])
