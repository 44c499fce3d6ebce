"""What `tunesmith dataset import` does before it asks the server: read the file, check every row, hash every clip.

Nothing is sent from here. A file of any number of rows is imported whole or not at all: every rule that the server has
is checked here first, for all rows, before the first batch is sent; the server checks again.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from trainer_node.data.jsonl import DatasetFileInvalid, RatedRow, RowProblem, digest_of, read_rated_file
from tunesmith.v1 import dataset_pb2

BATCH_ROWS = 1_000  # the most samples of one AddSamples


@dataclass(frozen=True)
class PreparedRow:
    """A checked row with the name that its audio will have. digest: SHA-256 of the file, of `size_bytes` bytes."""

    row: RatedRow
    digest: str
    size_bytes: int

    def sample(self) -> dataset_pb2.Sample:
        """The row as AddSamples takes it."""
        row = self.row
        return dataset_pb2.Sample(prompt=row.prompt, audio_digest=self.digest, rating=row.rating, tags=row.tags)


@dataclass(frozen=True)
class PreparedImport:
    """A whole data set file, ready to be sent."""

    file: Path
    rows: tuple[PreparedRow, ...]

    @property
    def audio_files(self) -> Mapping[str, Path]:
        """The files to upload, by digest; clips with the same bytes are one file."""
        return {prepared.digest: prepared.row.audio_path for prepared in self.rows}

    @property
    def size_bytes(self) -> int:
        """Bytes of all the files to upload."""
        return sum({prepared.digest: prepared.size_bytes for prepared in self.rows}.values())

    def batches(self, rows: int = BATCH_ROWS) -> Iterator[tuple[PreparedRow, ...]]:
        """The rows in the order of the file, at most `rows` at a time."""
        for start in range(0, len(self.rows), rows):
            yield self.rows[start : start + rows]

    def problem(self, prepared: PreparedRow, what: str) -> RowProblem:
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

    audio_folder, on_audio: see `read_rated_file`. check_audio: whether to decode every clip here; by default where the
    decoders are installed. Without them the server is the first to look into the clips.
    """
    if check_audio is None:
        check_audio = all(importlib.util.find_spec(module) for module in ("numpy", "soundfile", "soxr"))
    rows = read_rated_file(path, audio_folder=audio_folder, check_audio=check_audio, on_audio=on_audio)
    digests = {audio_path: digest_of(audio_path) for audio_path in {row.audio_path for row in rows}}
    prepared = tuple(PreparedRow(row, digests[row.audio_path], row.audio_path.stat().st_size) for row in rows)
    problems = list(_same_sound(path, prepared))
    if problems:
        raise DatasetFileInvalid(problems)
    return PreparedImport(path, prepared)


def _same_sound(path: Path, rows: tuple[PreparedRow, ...]) -> Iterator[RowProblem]:
    """Rows of one prompt whose files differ in name only; the server would drop the rating of the second."""
    first: dict[tuple[str, str], int] = {}
    for prepared in rows:
        line = first.setdefault((prepared.digest, prepared.row.prompt), prepared.row.line)
        if line != prepared.row.line:
            what = f"the same sound and prompt as line {line}, under another file name; remove one of them"
            yield RowProblem(str(path), prepared.row.line, what)
