"""A row of a user's data set file that compares clips: `prompt`, `chosen`, `rejected`, or `prompt` and `ranked`.

`ranked` holds sound files best first; files in a list of their own are tied. Ranges and lengths are those of
`Comparison` in the contract.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from trainer_node.data.row_values import audio_path, missing, prompt_text, shown, unknown
from tunesmith import spec
from tunesmith.v1 import dataset_pb2

PAIR_KEYS = ("prompt", "chosen", "rejected")
LIST_KEYS = ("prompt", "ranked")
_WANTED = 'the sound files best first, such as ["best.wav", ["tied.wav", "tied too.wav"], "worst.wav"]'


@dataclass(frozen=True)
class ComparisonRow:
    """A row that passed. line: where it begins in its file, from 1. clips: (existing file, rank), best first."""

    line: int
    prompt: str
    clips: tuple[tuple[Path, int], ...]


@dataclass
class CheckedComparison:
    """What could be told of one row: the row if nothing was wrong, the audio files that were found, and problems.

    names: what each file is called in the row, in the row's order.
    """

    row: ComparisonRow | None = None
    names: dict[Path, str] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)

    @property
    def audio_paths(self) -> list[Path]:
        """The files that were found, each once."""
        return list(self.names)

    def same_sound(self, digests: Mapping[Path, str]) -> Iterator[str]:
        """What to say of files that differ in name only. digests: of the files that could be read."""
        first: dict[str, Path] = {}
        for path, name in self.names.items():
            other = first.setdefault(digests.get(path, str(path)), path)
            if other != path:
                yield f"{self.names[other]} and {name} are the same sound; correct one of the paths"


def is_comparison(record: Mapping[str, object]) -> bool:
    """Whether a row compares clips, told by its keys."""
    return bool(record.keys() & {"chosen", "rejected", "ranked"})


def check_comparison(record: Mapping[str, object], *, line: int, folder: Path) -> CheckedComparison:
    """Check all but the content of the audio files. folder: where relative audio paths start and all audio lies."""
    checked = CheckedComparison()
    keys = LIST_KEYS if "ranked" in record else PAIR_KEYS
    advice = "; a comparison has nothing else" if "ranked" in record else "; a pair has nothing else"
    checked.problems += [unknown(key, keys, otherwise=advice) for key in record if key not in keys]
    prompt = prompt_text(record.get("prompt"), checked.problems)
    named = _ranked(record["ranked"], checked.problems) if "ranked" in record else _pair(record)
    clips = [(_clip(name, value, folder, checked), rank) for name, value, rank in named]
    _check_contract(prompt, [rank for _, rank in clips], checked.problems)
    if not checked.problems and prompt is not None:
        checked.row = ComparisonRow(line, prompt, tuple((path, rank) for path, rank in clips if path is not None))
    return checked


def _pair(record: Mapping[str, object]) -> list[tuple[str, object, int]]:
    """(name, value, rank) of each clip."""
    return [("chosen", record.get("chosen"), 1), ("rejected", record.get("rejected"), 2)]


def _ranked(value: object, problems: list[str]) -> list[tuple[str, object, int]]:
    if not isinstance(value, list):
        problems.append(missing("ranked", value, _WANTED))
        return []
    clips: list[tuple[str, object, int]] = []
    for rank, entry in enumerate(value, start=1):
        if isinstance(entry, list) and not entry:
            problems.append(
                f"place {rank} of ranked is an empty list; name the files that are tied there, or remove it"
            )
        clips += [(f"place {rank} of ranked", each, rank) for each in (entry if isinstance(entry, list) else [entry])]
    if len(clips) < 2:
        have = f"only {shown(clips[0][1])}" if clips else "no clip"
        problems.append(f"ranked has {have}, so there is nothing to rank; add the clips that it was compared with")
    return clips


def _clip(name: str, value: object, folder: Path, checked: CheckedComparison) -> Path | None:
    path = audio_path(name, value, folder, checked.problems)
    if path in checked.names:
        checked.problems.append(f"{name} {value!r} is the same file as {checked.names[path]}; correct one of the paths")
    elif path is not None:
        checked.names[path] = f"{name} {value!r}"
    return path


def _check_contract(prompt: str | None, ranks: list[int], problems: list[str]) -> None:
    """The rules written in dataset.proto. What is missing was told before, and stands in for itself here."""
    if len(ranks) < 2:
        ranks = [1, 2]
    clips = [dataset_pb2.RankedClip(audio_digest=f"{n:064x}", rank=min(rank, 64)) for n, rank in enumerate(ranks[:65])]
    for problem in spec.check(dataset_pb2.Comparison(prompt=prompt or "-", clips=clips)):
        if problem.path == "prompt":
            problems.append(f"prompt {problem.what}; shorten it")
        elif problem.path == "clips":
            problems.append(f"ranked has {len(ranks)} clips and {problem.what}; make several lists of it")
        else:
            problems.append(problem.what)
