"""Where a language model is written to, and what becomes of one that is there already."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import click

from services.cli.session import Session
from services.cli.terminal import is_interactive
from trainer_node.engines.tinylm import layout
from tunesmith.errors import FieldProblem, InvalidField, TunesmithError

Choice = Literal["resume", "restart", "new-version"]
CHOICES: tuple[Choice, ...] = ("resume", "restart", "new-version")


class TrainingExists(TunesmithError):
    """The output folder holds a training, and nobody said what becomes of it."""

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
    """The folder to write to. Asks a person on a terminal; elsewhere raises TrainingExists, InvalidField."""
    there = found(folder)
    if not there:
        if choice == "resume" and not (folder / layout.CONFIG).is_file():
            what = f"{folder} holds nothing to resume; start without --resume"
            raise InvalidField.of([FieldProblem("output", what)])
        return Target(folder, resumes=choice == "resume")
    choice = choice or _asked(session, folder, there)
    if choice == "new-version":
        return Target(next_version(folder))
    return Target(folder, resumes=choice == "resume", restarts=choice == "restart")


def found(folder: Path) -> str:
    """The training that a folder holds, in words; empty for none. What came before the first checkpoint is no loss."""
    from trainer_node.checkpoints import checkpoints

    if (folder / layout.record_of(layout.TRAINING)).is_file():
        return "a finished training"
    if kept := checkpoints(folder / layout.CHECKPOINTS):
        return f"a training that stopped after step {int(kept[-1].name.removeprefix('step-'))}"
    return "a model" if any((folder / name).exists() for name in layout.MODELS) else ""


def next_version(folder: Path) -> Path:
    """The first free folder beside this one: `tiny-lm-v2`, `tiny-lm-v3`, …"""
    number = 2
    while (fresh := folder.with_name(f"{folder.resolve().name}-v{number}")).exists():
        number += 1
    return fresh


def _asked(session: Session, folder: Path, there: str) -> Choice:
    if session.out.format == "table" and is_interactive(sys.stdin) and is_interactive(sys.stderr):
        session.out.note(
            f"{folder} holds {there}. resume: go on with it; restart: begin again, it goes; new-version: leave it, and "
            f"write to {next_version(folder)}"
        )
        answer: Choice = click.prompt("Which one", type=click.Choice(CHOICES), default="resume", err=True)
        return answer
    raise TrainingExists(
        f"{folder} holds {there}; give --resume to go on with it, --restart to begin again (it goes), or --new-version "
        f"to leave it and write to {next_version(folder)}",
        output=folder,
    )
