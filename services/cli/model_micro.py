"""`tunesmith model train-micro`: the base model that comes with Tunesmith, made anew."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from services.cli.commands import LocalCommand, session_of
from services.cli.micro_progress import shown
from services.cli.model import require_empty
from services.cli.output import Column
from services.cli.session import Session
from services.cli.train_extra import require_train_extra

if TYPE_CHECKING:
    from trainer_node.engines.micro.measuring import Measured
    from trainer_node.engines.micro.recipe import Recipe

_ATTRIBUTES = ("register", "tempo", "mode", "timbre", "pattern")


def _share(name: str) -> Callable[[Any], str]:
    return lambda row: f"{row[1].shares[name]:.3f}"


HEARD = (
    Column("heard_of", lambda row: row[0]),
    *(Column(name, _share(name)) for name in _ATTRIBUTES),
    Column("all_five", lambda row: f"{row[1].whole:.3f}"),
    Column("in_scale", lambda row: f"{row[1].in_scale:.3f}"),
    Column("clips", lambda row: row[1].clips),
)


@click.command("train-micro", cls=LocalCommand)
@click.argument("folder", metavar="DIR", type=click.Path(file_okay=False, path_type=Path))
@click.option(
    "--seed", type=click.IntRange(0, 2**31 - 1), default=0, show_default=True, help="Of the weights and of the tunes."
)
@click.option(
    "--threads", type=click.IntRange(1), default=1, show_default=True, help="CPU threads; they decide the last bits."
)
@click.option(
    "--clips",
    type=click.IntRange(1),
    default=384,
    show_default=True,
    help="How many are heard for each measured share.",
)
@click.pass_context
def train_micro(ctx: click.Context, folder: Path, seed: int, threads: int, clips: int) -> None:
    """Train the micro base model in DIR from nothing: synthesised tunes, a codec, a decoder. Takes about an hour.

    It is a complete MusicGen of 3.6 MB that plays what it is asked for. One that is ready comes with Tunesmith: it is
    `--base-model tunesmith/micro`. At the end it is measured by listening to what it plays; card, settings and
    checksums are in DIR. The same seed, threads, machine and versions give the same weights.

    Ctrl-C stops at once; the same command then goes on, behind the codec where that was done. With -o jsonl every step
    that is told is a line.

    Exit codes: 0 made, 4 DIR is not empty, 9 packages are missing, 130 Ctrl-C.
    """
    require_train_extra()
    session = session_of(ctx)
    session.out.note("loading PyTorch …")
    from trainer_node.engines.micro.codec import CodecSettings
    from trainer_node.engines.micro.decoder import DecoderSettings
    from trainer_node.engines.micro.recipe import Recipe

    recipe = Recipe(codec=CodecSettings(seed=seed), decoder=DecoderSettings(seed=seed))
    make(session, folder, recipe, threads=threads, clips=clips)


def make(session: Session, folder: Path, recipe: Recipe, *, threads: int, clips: int) -> None:
    """Make the model of a recipe and tell what became of it. Raises FolderNotEmpty."""
    from trainer_node.engines.micro import making

    out = session.out
    _require_begun_or_empty(folder, recipe, threads)
    try:
        out.note("this takes about an hour on one core; Ctrl-C stops it, the same command goes on")
        with shown(out, making.steps(recipe)) as tell:
            measured = making.make_micro(folder, recipe, tell, threads=threads, clips=clips)
    except KeyboardInterrupt:
        out.note(_how_to_go_on(folder, recipe, threads))
        raise
    _tell_result(session, folder, measured)


def _require_begun_or_empty(folder: Path, recipe: Recipe, threads: int) -> None:
    """What this very training has left when it was interrupted may be there."""
    from trainer_node.engines.micro import card
    from trainer_node.engines.micro import recipe as recipes

    finished = (folder / card.SUMS).is_file()
    begun = (folder / recipes.MAKING).is_dir() or recipes.is_made(folder, recipe, threads=threads)
    if finished or not begun:
        require_empty(folder)


def _how_to_go_on(folder: Path, recipe: Recipe, threads: int) -> str:
    from trainer_node.engines.micro import recipe as recipes

    if recipes.is_made(folder, recipe, threads=threads):
        return "stopped; the model is trained: the same command measures it"
    if recipes.codec_is_kept(folder, recipe.codec):
        return f"stopped; the codec is kept in {folder / recipes.MAKING}: the same command goes on after it"
    return "stopped before the codec was done; the same command begins again"


def _tell_result(session: Session, folder: Path, measured: Measured) -> None:
    out = session.out
    if out.format == "table":
        out.rows(measured.rows(), HEARD)
        out.pairs([("base_model", folder), ("card", folder / "README.md")])
    else:
        from dataclasses import asdict

        out.document({"base_model": str(folder), "measured": asdict(measured)})
    out.note(f"next: tunesmith train supervised --base-model {folder} --dataset rated.jsonl --output out")
