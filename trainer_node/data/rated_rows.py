"""One row of a user's data set file: `audio`, `prompt`, `rating`, `tags`; and everything that may be wrong with it.

Ranges and lengths are those of `Sample` in the contract, so that a row which passes here passes at the server. A row
may only name audio inside the audio folder, symbolic links followed: a data set that was downloaded must not be able to
make an import read, and upload, other files.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tunesmith import spec
from tunesmith.errors import FieldProblem, TunesmithError
from tunesmith.v1 import dataset_pb2

KEYS = ("audio", "prompt", "rating", "tags")


@dataclass(frozen=True)
class RatedRow:
    """A row that passed. line: where it begins in its file, from 1. audio_path: resolved, an existing file."""

    line: int
    audio_path: Path
    prompt: str
    rating: float
    tags: Mapping[str, str]


@dataclass(frozen=True)
class RowProblem:
    """What is wrong with a row and what to do. line 0: the whole file."""

    file: str
    line: int
    what: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line}: {self.what}" if self.line else f"{self.file}: {self.what}"


class DatasetFileInvalid(TunesmithError):
    """A data set file with problems, all of which are in `problems`; nothing of it may be used."""

    reason = "SAMPLE_INVALID"

    def __init__(self, problems: Sequence[RowProblem]) -> None:
        count = f"{len(problems)} problem{'s' if len(problems) > 1 else ''}, nothing was read in"
        lines = "\n".join(str(problem) for problem in problems)
        fields = [FieldProblem(f"{p.file}:{p.line}" if p.line else p.file, p.what) for p in problems]
        super().__init__(f"{count}:\n{lines}", fields=fields)
        self.problems = tuple(problems)


@dataclass
class CheckedRow:
    """What could be told of one row: the row if nothing was wrong, its audio file if that was found, and problems."""

    row: RatedRow | None = None
    audio_path: Path | None = None
    problems: list[str] = field(default_factory=list)


def check_row(record: Mapping[str, object], *, line: int, folder: Path) -> CheckedRow:
    """Check all but the content of the audio file. folder: where relative audio paths start and all audio lies."""
    checked = CheckedRow()
    checked.problems += [unknown(key, KEYS) for key in record if key not in KEYS]
    checked.audio_path = _audio(record.get("audio"), folder, checked.problems)
    rating = _rating(record.get("rating"), checked.problems)
    prompt = _prompt(record.get("prompt"), checked.problems)
    tags = _tags(record.get("tags"), checked.problems)
    _check_contract(prompt, rating, tags, checked.problems)
    if not checked.problems and checked.audio_path is not None and prompt is not None and rating is not None:
        checked.row = RatedRow(line, checked.audio_path, prompt, rating, tags)
    return checked


def unknown(key: str, known: Sequence[str]) -> str:
    """The sentence about a key that is not known, with the known one that comes nearest."""
    near = difflib.get_close_matches(key.casefold(), known, n=1, cutoff=0.6)
    hint = f"did you mean {near[0]}?" if near else f"use {', '.join(known)}; anything else goes into tags"
    return f"unknown key {key!r:.80}; {hint}"


def _audio(value: object, folder: Path, problems: list[str]) -> Path | None:
    if not isinstance(value, str) or not value:
        problems.append(_missing("audio", value, "the path of a sound file"))
        return None
    try:
        path = (folder / value).resolve()
        if not path.is_relative_to(folder.resolve()):
            problems.append(
                f"audio {value!r} lies outside {folder.resolve()}; move it there, or name another audio folder"
            )
            return None
        if not path.is_file():
            problems.append(f"audio {value!r} does not exist (no file {path}); correct the path")
            return None
    except (OSError, RuntimeError, ValueError) as error:  # a loop of links, a NUL or a lone surrogate, a name too long
        problems.append(f"audio {value!r:.200} is not a usable path ({error}); rename the file")
        return None
    return path


def _rating(value: object, problems: list[str]) -> float | None:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        problems.append(_missing("rating", value, "a number from 1 to 5"))
        return None
    try:
        rating = float(value)
    except OverflowError:
        rating = math.inf
    if not 1 <= rating <= 5:
        problems.append(f"rating is {value!r:.40}; give a number from 1 to 5")
        return None
    return rating


def _prompt(value: object, problems: list[str]) -> str | None:
    if not isinstance(value, str) or not value.strip():
        problems.append(_missing("prompt", value, "a text that describes the clip"))
        return None
    return value if _is_clean("prompt", value, problems) else None


def _tags(value: object, problems: list[str]) -> dict[str, str]:
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        problems.append(f'tags is {_shown(value)}; give an object of texts such as {{"mode": "major"}}')
        return {}
    tags = {}
    for key, text in value.items():
        if not isinstance(text, str):
            problems.append(f"tag {key!r:.80} is {_shown(text)}; give a text, in quotes")
        elif _is_clean(f"tag {key!r:.80}", text, problems) and _is_clean("a tag's name", key, problems):
            tags[key] = text
    return tags


def _is_clean(name: str, text: str, problems: list[str]) -> bool:
    if "\0" in text:
        problems.append(f"{name} holds a NUL character; remove it")
        return False
    if any("\ud800" <= character <= "\udfff" for character in text):
        problems.append(f"{name} holds half of a surrogate pair, which is no character; write the character itself")
        return False
    return True


def _check_contract(prompt: str | None, rating: float | None, tags: Mapping[str, str], problems: list[str]) -> None:
    """The rules written in dataset.proto. What is missing was told before, and stands in for itself here."""
    sample = dataset_pb2.Sample(prompt=prompt or "-", rating=rating or 1, audio_digest="0" * 64, tags=tags)
    for problem in spec.check(sample):
        if "regex" in problem.what:
            rule = "1 to 63 letters, digits, `.`, `_`, `/`, `-`, beginning with a letter or digit"
            problems.append(f"{problem.path} is no name of a tag; use {rule}")
        else:
            problems.append(f"{problem.path} {problem.what}; shorten it")


def _missing(key: str, value: object, wanted: str) -> str:
    return f"{key} is {_shown(value)}; give {wanted}"


def _shown(value: object) -> str:
    if value is None:
        return "missing"
    return "empty" if isinstance(value, str) and not value.strip() else f"{value!r:.80}"
