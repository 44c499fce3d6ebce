"""Where a language model is written to, and what becomes of what is there already: ours, or somebody else's."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import click

from services.cli.lm_settings import HEADING
from services.cli.model import FolderNotEmpty
from services.cli.session import Session
from services.cli.terminal import is_interactive
from trainer_node.engines.tinylm import layout
from tunesmith.errors import FieldProblem, InvalidField, TunesmithError

DEFAULT_OUTPUT = Path("tiny-lm")

Choice = Literal["resume", "restart", "new-version"]
CHOICES: tuple[Choice, ...] = ("resume", "restart", "new-version")


class TrainingExists(TunesmithError):
    """The output folder holds a training, and nobody said what becomes of it, or it cannot be gone on with."""

    reason = "TRAINING_EXISTS"


class OutputInUse(TunesmithError):
    """Another training works in the folder."""

    reason = "FOLDER_IN_USE"


@dataclass(frozen=True)
class Target:
    """Where to write. resumes: what is there is gone on with; restarts: a training that is there goes."""

    folder: Path
    resumes: bool = False
    restarts: bool = False


def target(session: Session, folder: Path, choice: Choice | None) -> Target:
    """The folder to write to. Asks a person on a terminal; elsewhere raises TrainingExists, InvalidField.

    Raises FolderNotEmpty where files of somebody else would be written over.
    """
    if lost := _of_others(folder):
        if choice == "new-version":
            return Target(next_version(folder))
        raise FolderNotEmpty(
            f"{folder} was not made by `tunesmith lm train`, which would write over {lost} in it; give a folder of "
            f"its own, such as --output {shlex.quote(str(folder / DEFAULT_OUTPUT))}",
            folder=folder,
        )
    there = found(folder)
    if not there:
        if choice == "resume" and not (folder / layout.CONFIG).is_file():
            what = f"{folder} holds nothing to resume; start without --resume"
            raise InvalidField.of([FieldProblem("output", what)])
        return Target(folder, resumes=choice == "resume")
    choices = CHOICES if can_go_on(folder) else CHOICES[1:]
    choice = choice or _asked(session, folder, there, choices)
    if choice not in choices:
        raise _exists(folder, there, choices)
    if choice == "new-version":
        return Target(next_version(folder))
    return Target(folder, resumes=choice == "resume", restarts=choice == "restart")


def is_ours(folder: Path) -> bool:
    """Whether a language model was begun in a folder, or downloaded into it."""
    from trainer_node.engines.tinylm import sealed

    stages = (layout.CORPUS, layout.TOKENIZER, layout.TOKENS, layout.TRAINING)
    if any((folder / layout.record_of(stage)).is_file() for stage in stages):
        return True
    config = folder / layout.CONFIG
    if config.is_file() and config.read_bytes().startswith(HEADING.encode()):
        return True
    return sealed.is_whole(folder / layout.TOKENIZER, layout.TOKENIZER_FACTS)


def found(folder: Path) -> str:
    """The training that a folder holds, in words; empty for none. What came before the first checkpoint is no loss."""
    from trainer_node.checkpoints import checkpoints

    if (folder / layout.record_of(layout.TRAINING)).is_file():
        return "a finished training"
    if kept := checkpoints(folder / layout.CHECKPOINTS):
        return f"a training that stopped after step {int(kept[-1].name.removeprefix('step-'))}"
    return "a model" if any((folder / name).exists() for name in layout.MODELS) else ""


def can_go_on(folder: Path) -> bool:
    """Whether the training in a folder is finished and whole, or has a whole checkpoint."""
    from trainer_node.checkpoints import latest
    from trainer_node.engines.tinylm import sealed

    finished = sealed.is_whole(folder, layout.record_of(layout.TRAINING))
    return finished or latest(folder / layout.CHECKPOINTS) is not None


def next_version(folder: Path) -> Path:
    """The first free folder beside this one: `tiny-lm-v2`, `tiny-lm-v3`, …"""
    whole = folder.resolve()
    beside = folder if folder.name not in ("", "..") else whole
    number = 2
    while (fresh := beside.with_name(f"{whole.name}-v{number}")).exists():
        number += 1
    return fresh


def _of_others(folder: Path) -> str:
    """The names in a folder of somebody else that a training would write over, as words; empty for none."""
    if not folder.is_dir() or is_ours(folder):
        return ""
    names = sorted({path.name for path in folder.iterdir()} & layout.WRITTEN)
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def _asked(session: Session, folder: Path, there: str, choices: Sequence[Choice]) -> Choice:
    if session.out.format == "table" and is_interactive(sys.stdin) and is_interactive(sys.stderr):
        means = {
            "resume": "go on with it",
            "restart": "begin again, it goes",
            "new-version": f"leave it, and write to {next_version(folder)}",
        }
        ways = "; ".join(f"{choice}: {means[choice]}" for choice in choices)
        session.out.note(f"{folder} holds {there}. {ways}")
        answer: Choice = click.prompt("Which one", type=click.Choice(choices), default=choices[0], err=True)
        return answer
    raise _exists(folder, there, choices)


def _exists(folder: Path, there: str, choices: Sequence[Choice]) -> TrainingExists:
    """The error that names the ways on."""
    if "resume" in choices:
        ways = "give --resume to go on with it, --restart to begin again (it goes), or --new-version"
    else:
        ways = "no whole checkpoint is left to go on from; give --restart to begin again (it goes), or --new-version"
    return TrainingExists(
        f"{folder} holds {there}; {ways} to leave it and write to {next_version(folder)}", output=folder
    )
