"""What rows of every kind have: a prompt and paths of sound files; and how it is told what is wrong with them.

A row may only name audio inside the audio folder, symbolic links followed: a data set that was downloaded must not be
able to make an import read, and upload, other files.
"""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tunesmith.errors import FieldProblem, TunesmithError


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


def unknown(key: str, known: Sequence[str], *, otherwise: str = "") -> str:
    """The sentence about a key that is not known, with the known one that comes nearest. otherwise: further advice."""
    near = difflib.get_close_matches(key.casefold(), known, n=1, cutoff=0.6)
    hint = f"did you mean {near[0]}?" if near else f"use {', '.join(known)}{otherwise}"
    return f"unknown key {key!r:.80}; {hint}"


def audio_path(name: str, value: object, folder: Path, problems: list[str]) -> Path | None:
    """The existing file inside `folder` that `value` names. name: of the value in the row, such as `audio`."""
    if not isinstance(value, str) or not value:
        problems.append(missing(name, value, "the path of a sound file"))
        return None
    try:
        path = (folder / value).resolve()
        if not path.is_relative_to(folder.resolve()):
            problems.append(
                f"{name} {value!r} lies outside {folder.resolve()}; move it there, or name another audio folder"
            )
            return None
        if not path.is_file():
            problems.append(f"{name} {value!r} does not exist (no file {path}); correct the path")
            return None
    except (OSError, RuntimeError, ValueError) as error:  # a loop of links, a NUL or a lone surrogate, a name too long
        problems.append(f"{name} {value!r:.200} is not a usable path ({error}); rename the file")
        return None
    return path


def prompt_text(value: object, problems: list[str]) -> str | None:
    """The prompt, if it is a text with something in it. Space around it is left out: it makes no other prompt of it."""
    if not isinstance(value, str) or not value.strip():
        problems.append(missing("prompt", value, "a text that describes the clip"))
        return None
    return value.strip() if is_clean("prompt", value, problems) else None


def is_clean(name: str, text: str, problems: list[str]) -> bool:
    """Whether a text has nothing in it that cannot be stored."""
    if "\0" in text:
        problems.append(f"{name} holds a NUL character; remove it")
        return False
    if any("\ud800" <= character <= "\udfff" for character in text):
        problems.append(f"{name} holds half of a surrogate pair, which is no character; write the character itself")
        return False
    return True


def missing(name: str, value: object, wanted: str) -> str:
    """The sentence about a value that is not there, or of the wrong type."""
    return f"{name} is {shown(value)}; give {wanted}"


def shown(value: object) -> str:
    """A value in a sentence."""
    if value is None:
        return "missing"
    return "empty" if isinstance(value, str) and not value.strip() else f"{value!r:.80}"
