"""From the bytes of a user's JSONL or CSV file to one mapping a row, going on after whatever cannot be read.

JSONL: one object a line. CSV: columns audio, prompt, rating; every further column is a tag, left out where the cell is
empty; or columns prompt, chosen, rejected. UTF-8, with or without a byte order mark. Empty lines are allowed only at
the end: one in the middle tends to be a lost row.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

from trainer_node.data.comparison_rows import PAIR_KEYS, is_comparison
from trainer_node.data.rated_rows import KEYS
from trainer_node.data.row_values import DatasetFileInvalid, RowProblem
from tunesmith import spec
from tunesmith.v1 import dataset_pb2

MAX_LINE_BYTES = 1 << 20
MAX_PROBLEMS = 10_000  # a file with more is no data set file
_FOREIGN = {
    b"\x1f\x8b": "gzip-compressed; unpack it",
    b"PK\x03\x04": "a zip archive or spreadsheet; export it as CSV",
    b"\xff\xfe": "UTF-16; save it as UTF-8",
    b"\xfe\xff": "UTF-16; save it as UTF-8",
}


class Gathered:
    """The problems found so far. Raises DatasetFileInvalid by itself where there are too many to be worth reading."""

    def __init__(self, file: str) -> None:
        self.file = file
        self.problems: list[RowProblem] = []

    def add(self, line: int, what: str) -> None:
        """Keep a problem. line 0: of the whole file."""
        self.problems.append(RowProblem(self.file, line, what))
        if len(self.problems) == MAX_PROBLEMS:
            self.problems.append(RowProblem(self.file, line, "too many problems; the rest was not read"))
            raise DatasetFileInvalid(self.problems)


def records(path: Path, gathered: Gathered) -> Iterator[tuple[int, Mapping[str, object]]]:
    """(line, object) of each row; what cannot be made an object is gathered."""
    try:
        if not path.is_file():
            gathered.add(0, "no such file; give the path of a .jsonl or .csv file")
            return
        with path.open("rb") as file:
            yield from _records_of(file, path.suffix.lower(), gathered)
    except (OSError, ValueError) as error:
        gathered.add(0, f"cannot be read ({error}); check its path and permissions")


def _records_of(file: BinaryIO, suffix: str, gathered: Gathered) -> Iterator[tuple[int, Mapping[str, object]]]:
    head = file.read(4096)
    file.seek(3 if head.startswith(b"\xef\xbb\xbf") else 0)
    for magic, what in _FOREIGN.items():
        if head.startswith(magic):
            gathered.add(0, f"the file is {what}")
            return
    if not head.removeprefix(b"\xef\xbb\xbf").strip():
        gathered.add(0, "the file is empty; write one row for each clip")
    elif suffix == ".csv":
        yield from _csv_records(_lines(file, gathered), gathered)
    elif suffix in (".jsonl", ".ndjson", ".json"):
        yield from _json_records(_lines(file, gathered), gathered)
    else:
        gathered.add(0, "neither .jsonl nor .csv; name the file after what it holds")


def _lines(file: BinaryIO, gathered: Gathered) -> Iterator[tuple[int, str]]:
    """Every line with its number and its end; bytes that are no UTF-8 are gathered and replaced."""
    number = 0
    while raw := file.readline(MAX_LINE_BYTES + 1):
        number += 1
        if len(raw) > MAX_LINE_BYTES:
            gathered.add(number, f"the line is longer than {MAX_LINE_BYTES:,} bytes; write one row a line")
            return
        try:
            yield number, raw.decode()
        except UnicodeDecodeError as error:
            gathered.add(number, f"byte {error.start + 1} of the line is not UTF-8; save the file as UTF-8")
            yield number, raw.decode(errors="replace")


def _json_records(lines: Iterator[tuple[int, str]], gathered: Gathered) -> Iterator[tuple[int, Mapping[str, object]]]:
    empty: list[int] = []
    for number, line in lines:
        if not line.strip():
            empty.append(number)
            continue
        for at in empty:
            gathered.add(at, "the line is empty; remove it, or write the row that belongs there")
        empty.clear()
        try:
            record = json.loads(line, object_pairs_hook=_object)
        except json.JSONDecodeError as error:
            gathered.add(number, f"not valid JSON at column {error.colno} ({error.msg}); write one object a line")
        except (
            ValueError,
            RecursionError,
        ) as error:  # a key given twice, thousands of digits, deep nesting
            gathered.add(number, f"not usable as JSON ({error}); write one plain object a line")
        else:
            if isinstance(record, dict):
                yield number, record
            else:
                gathered.add(
                    number, f'not an object but {line.strip()!r:.40}; write {{"audio": …, "prompt": …, "rating": …}}'
                )


def _object(pairs: list[tuple[str, object]]) -> dict[str, object]:
    record = dict(pairs)
    if len(record) < len(pairs):
        twice = next(key for key, _ in pairs if [k for k, _ in pairs].count(key) > 1)
        raise ValueError(f"{twice!r:.80} is given twice")
    return record


def _csv_records(lines: Iterator[tuple[int, str]], gathered: Gathered) -> Iterator[tuple[int, Mapping[str, object]]]:
    reader = csv.reader((line for _, line in lines), strict=True)
    header: list[str] | None = None
    empty: list[int] = []
    while True:
        number = reader.line_num + 1
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            gathered.add(number, f"not valid CSV ({error}); put cells with commas, quotes or line ends in quotes")
            if header is None:
                return
            continue
        if not cells:
            empty.append(number)
            continue
        for at in empty:
            gathered.add(at, "the line is empty; remove it, or write the row that belongs there")
        empty.clear()
        if header is None:
            header = cells
            if problems := list(_header_problems(header)):
                for what in problems:
                    gathered.add(number, what)
                return
        elif len(cells) != len(header):
            gathered.add(
                number, f"{len(cells)} cells where the header has {len(header)}; put texts with commas in quotes"
            )
        else:
            yield number, _csv_row(dict(zip(header, cells, strict=True)))


def _header_problems(header: Sequence[str]) -> Iterator[str]:
    if len(header) == 1 and any(mark in header[0] for mark in ";\t"):
        yield "the header has no commas; save the file with commas between the cells"
        return
    if len(set(header)) < len(header):
        yield f"the header names a column twice: {','.join(header)!r:.120}; rename one"
    yield from _pair_header_problems(header) if is_comparison(dict.fromkeys(header)) else _rated_header_problems(header)


def _pair_header_problems(header: Sequence[str]) -> Iterator[str]:
    if "ranked" in header:
        yield "ranked lists do not fit into a CSV; write them as JSONL"
    elif absent := [key for key in PAIR_KEYS if key not in header]:
        yield f"the header is {','.join(header)!r:.120} without {', '.join(absent)}; begin with prompt,chosen,rejected"
    for key in header:
        if key not in (*PAIR_KEYS, "ranked"):
            yield f"a pair has no {key!r:.80}; remove the column, its columns are prompt,chosen,rejected"


def _rated_header_problems(header: Sequence[str]) -> Iterator[str]:
    wanted = KEYS[:3]
    missing = [key for key in wanted if key not in header]
    if missing:
        yield f"the header is {','.join(header)!r:.120} without {', '.join(missing)}; begin with audio,prompt,rating"
    for key in header:
        if key not in wanted and spec.check(
            dataset_pb2.Sample(prompt="-", rating=1, audio_digest="0" * 64, tags={key: ""})
        ):
            yield f"the column {key!r:.80} is no name of a tag; use letters, digits, `.`, `_`, `/`, `-`"


def _csv_row(cells: Mapping[str, str]) -> Mapping[str, object]:
    if is_comparison(cells):
        return cells
    rating: object = cells["rating"]
    with suppress(ValueError):  # check_row tells what it holds instead
        rating = float(cells["rating"])
    tags = {key: cell for key, cell in cells.items() if key not in KEYS[:3] and cell}
    return {"audio": cells["audio"], "prompt": cells["prompt"], "rating": rating, "tags": tags}
