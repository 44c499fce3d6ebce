"""`tunesmith train supervised|dpo|ranking`: what each kind is given; how they run is one and the same."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from services.cli.commands import LocalCommand, session_of
from services.cli.derivation_flags import PAIRS, RANKED_LISTS, derivation_flags
from services.cli.setting_flags import setting_flags
from services.cli.settings_input import set_option
from services.cli.train_foreground import train_in_foreground

F = TypeVar("F", bound=Callable[..., Any])

_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)
_OPTIONS = (
    click.option(
        "--dataset",
        required=True,
        type=_FILE,
        help="JSONL or CSV with audio, prompt and rating, or with comparisons; audio paths are relative to it.",
    ),
    click.option(
        "--base-model",
        metavar="DIR|HF_ID",
        help="Folder, Hugging Face id such as facebook/musicgen-small, or tunesmith/micro, which comes with Tunesmith.",
    ),
    click.option(
        "--output",
        required=True,
        type=click.Path(file_okay=False, path_type=Path),
        help="Folder for checkpoints, previews, the adapter and the report.",
    ),
    click.option(
        "--start-adapter",
        type=click.Path(exists=True, file_okay=False, path_type=Path),
        help="PEFT folder of an adapter to go on from, such as OUTPUT/adapter; base model and shape are its own.",
    ),
    click.option("--config", type=_FILE, help="YAML with settings below their kind, or beside `training_type`."),
    click.option("--resume", is_flag=True, help="Go on from the newest whole checkpoint in the output folder."),
    click.option("--threads", type=click.IntRange(1), default=None, help="CPU threads."),
    click.option("--device", default=None, help="Such as cpu or cuda:0; the first GPU where not given, else the CPU."),
)


def _training(kind: str) -> Callable[[F], F]:
    """Adds what every kind is given: files, --set, and a flag for each of its settings."""

    def decorate(command: F) -> F:
        command = setting_flags(kind, without=("base_model", "start_adapter_id"))(command)
        return set_option(command)

    return decorate


def _files(command: F) -> F:
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


@click.command(cls=LocalCommand)
@_files
@click.option("--min-rating", type=float, default=None, help="Leave out clips that are rated lower.")
@_training("supervised")
@click.pass_context
def supervised(ctx: click.Context, /, **keywords: Any) -> int:
    """Train a LoRA adapter on rated clips, their prompts as conditioning.

    Settings: flags and --set over --config over defaults; unknown keys are refused. Ctrl-C finishes the step, writes a
    checkpoint and ends; twice stops at once. --resume goes on bit by bit as if nothing had happened (on a CPU). With
    -o jsonl every event is printed.

    Exit codes: 0 trained, 2 a setting or the data is wrong, 4 the adapter to start from is unsuitable, 7 the training
    failed, 9 the base model or disk space is missing, 130 Ctrl-C.
    """
    return train_in_foreground(session_of(ctx), "supervised", keywords)


@click.command(cls=LocalCommand)
@_files
@derivation_flags(PAIRS)
@_training("dpo")
@click.pass_context
def dpo(ctx: click.Context, /, **keywords: Any) -> int:
    """Train a LoRA adapter on preference pairs: of two clips of a prompt, which is liked better (DPO).

    The pairs are those that the file names, and those that follow from its ratings: any two clips of one prompt whose
    ratings differ by --min-rating-gap. How many they are is told before training. What the training starts from is its
    reference: --start-adapter, or the base model.

    Settings, Ctrl-C, --resume and -o jsonl as for `train supervised`. Exit codes: 0 trained, 2 a setting or the data is
    wrong, 4 the adapter to start from is unsuitable, 7 the training failed, 9 the base model or disk space is missing,
    130 Ctrl-C.
    """
    return train_in_foreground(session_of(ctx), "dpo", keywords)


@click.command(cls=LocalCommand)
@_files
@derivation_flags(RANKED_LISTS)
@_training("ranking")
@click.pass_context
def ranking(ctx: click.Context, /, **keywords: Any) -> int:
    """Train a LoRA adapter on ranked lists: the clips of a prompt in the order in which they are liked.

    The lists are those that the file names, and those that follow from its ratings: the clips of one prompt, best
    first, tied where their ratings differ by less than --min-rating-gap. How many they are is told before training.
    What the training starts from is its reference: --start-adapter, or the base model.

    Settings, Ctrl-C, --resume and -o jsonl as for `train supervised`. Exit codes: 0 trained, 2 a setting or the data is
    wrong, 4 the adapter to start from is unsuitable, 7 the training failed, 9 the base model or disk space is missing,
    130 Ctrl-C.
    """
    return train_in_foreground(session_of(ctx), "ranking", keywords)
