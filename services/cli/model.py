"""`tunesmith model`: base models to try things with."""

from __future__ import annotations

from pathlib import Path

import click

from services.cli.commands import LazyGroup, LocalCommand, session_of
from services.cli.train_extra import require_train_extra
from tunesmith.errors import TunesmithError


class FolderNotEmpty(TunesmithError):
    """A folder to write to holds something already."""

    reason = "FOLDER_NOT_EMPTY"


def require_empty(folder: Path) -> None:
    """Raises FolderNotEmpty."""
    if folder.exists() and any(folder.iterdir()):
        raise FolderNotEmpty(f"{folder} is not empty; name a new folder", folder=folder)


@click.group(cls=LazyGroup)
def model() -> None:
    """Make base models to try things with."""


@model.command("make-tiny", cls=LocalCommand)
@click.argument("folder", metavar="DIR", type=click.Path(file_okay=False, path_type=Path))
@click.option("--stereo", is_flag=True, help="Two channels instead of one.")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="The same seed, the same weights.")
@click.pass_context
def make_tiny(ctx: click.Context, folder: Path, stereo: bool, seed: int) -> None:
    """Write a complete MusicGen folder with small random weights to DIR, in seconds.

    It is loaded like facebook/musicgen-small, trains on a laptop and sounds like noise. Exit code 4: DIR is not empty.
    """
    require_train_extra()
    from trainer_node.engines.musicgen.tiny import make_tiny as write

    session = session_of(ctx)
    require_empty(folder)
    write(folder, stereo=stereo, seed=seed)
    session.out.pairs([("base_model", folder), ("stereo", stereo), ("seed", seed)])
    session.out.note(f"next: tunesmith train supervised --base-model {folder} --dataset rated.jsonl --output out")
