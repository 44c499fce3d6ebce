"""`tunesmith dataset rate`: clips that runs have generated, rated into a data set by a person or by a listener."""

from __future__ import annotations

import getpass
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from services.cli.commands import ClientCommand, session_of
from services.cli.completion import DATASETS, RUNS
from services.cli.exit_codes import ExitCode

if TYPE_CHECKING:
    from services.cli.clips import Clip
    from services.cli.rating import Ratings, Way
    from services.cli.session import Session
    from tunesmith.client.client import Client
    from tunesmith.v1.run_pb2 import Preview


@click.command("rate", cls=ClientCommand)
@click.argument("dataset", shell_complete=DATASETS)
@click.option("--run", "runs", metavar="RUN", multiple=True, required=True, shell_complete=RUNS,
              help="Whose clips; with several runs they are mixed.")  # fmt: skip
@click.option("--rater", metavar="NAME", help="Who rates, kept as a tag. [default: the login name, or listener]")
@click.option("--seed", type=int, help="By ear: of the order of prompts and clips. [default: 0]")
@click.option("--player", metavar="CMD", help="By ear: what plays a clip; TUNESMITH_PLAYER, or what is found.")
@click.option("--to", "folder", metavar="DIR", type=click.Path(file_okay=False, path_type=Path),
              help="By ear: write the clips to this folder and play nothing.")  # fmt: skip
@click.option("--wish", "wishes", metavar="NAME=VALUE", multiple=True,
              help="Have a listener rate that likes this, such as mode=major; may be repeated.")  # fmt: skip
@click.option("--noise", metavar="X", type=click.FloatRange(0, 1),
              help="How often the listener errs, 0 to 1. [default: 0]")  # fmt: skip
@click.option("--rater-seed", metavar="N", type=int,
              help="Tells one listener's errors from another's. [default: 0]")  # fmt: skip
@click.pass_context
def rate(
    ctx: click.Context,
    dataset: str,
    runs: tuple[str, ...],
    rater: str | None,
    seed: int | None,
    player: str | None,
    folder: Path | None,
    wishes: tuple[str, ...],
    noise: float | None,
    rater_seed: int | None,
) -> int:
    """Rate clips that runs have generated, by ear or by a listener. A new name creates the data set.

    By ear: on a terminal, clip after clip, those of one prompt together, without telling which model played. Type 1 to
    5, or r to hear it again, s to leave it for another time, q to end. The first player that is found plays: pw-play,
    paplay, aplay, afplay, ffplay, play or mpv.

    With --wish: by a listener, which measures register, tempo, mode, timbre and pattern of a tune and rates 5 where
    every wish is heard, 1 where one is not, 3 where that is unclear. It knows the world of the micro model, tunes of
    one voice at 8 kHz, and nothing of other music.

    Each rating is stored at once, and what is rated already is left out: end it whenever you like, and go on with the
    same command. Exit codes: 2 neither a terminal nor --wish, 9 no player, 130 Ctrl-C; ratings are kept.
    """
    if wishes:
        _require_none("is for rating by ear; leave out --wish", seed=seed, player=player, to=folder)
        way = _listener(wishes, noise or 0.0, rater_seed or 0)
    else:
        _require_none("is a listener's; add a --wish, such as --wish mode=major", noise=noise, rater_seed=rater_seed)
        way = _person(rater, player, folder)
    session = session_of(ctx)
    with session.client() as client:
        return _rate(session, client, dataset, _clips(client, runs, seed or 0), way, rater or way.name)


def _require_none(what: str, **given: object) -> None:
    for name, value in given.items():
        if value is not None:
            raise click.UsageError(f"--{name.replace('_', '-')} {what}")


def _listener(wishes: Sequence[str], noise: float, seed: int) -> Way:
    from services.cli.rate_by_listener import ByListener
    from trainer_node.tunes.rater import Rater
    from trainer_node.tunes.wish import parse_wish

    return ByListener(Rater(wish=parse_wish(wishes), noise=noise, seed=seed))


def _person(rater: str | None, player: str | None, folder: Path | None) -> Way:
    from services.cli.cache import cache_folder
    from services.cli.player import find_player
    from services.cli.rate_by_ear import ByEar

    if not sys.stdin.isatty():
        raise click.UsageError(
            "rating by ear needs a terminal, and this is none; have a listener rate with --wish, such as "
            "--wish mode=major, or write the ratings into a file for `tunesmith dataset import`"
        )
    if folder is None:
        return ByEar(rater or _login_name(), cache_folder("clips"), find_player(player or ""))
    _require_none("does not go with --to, which plays nothing; leave out one of them", player=player)
    return ByEar(rater or _login_name(), folder)


def _login_name() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # such as a container's user without a name
        raise click.UsageError("nobody knows your name here; say who rates with --rater NAME") from None


def _clips(client: Client, runs: Sequence[str], seed: int) -> list[Clip]:
    """All clips of the runs in the order of the seed, each once. Raises InvalidField for a run without any."""
    from services.cli.clips import clips_of, in_order
    from tunesmith.client.lists import read_list
    from tunesmith.client.names import resolve_run
    from tunesmith.errors import FieldProblem, InvalidField
    from tunesmith.v1 import run_pb2

    previews: list[Preview] = []
    for run in runs:
        run_id = resolve_run(client, run)
        found = read_list(client.runs.ListPreviews, run_pb2.ListPreviewsRequest(run_id=run_id)).previews
        if not clips_of(found):
            what = f"{run_id} has no clips; `tunesmith run get {run_id}` shows what it is and how far"
            raise InvalidField.of([FieldProblem("run", what)])
        previews += found
    return in_order(clips_of(previews), seed=seed)


def _rate(session: Session, client: Client, dataset: str, clips: Sequence[Clip], way: Way, rater: str) -> int:
    """Rate what the data set does not have, and say what came of it, also where Ctrl-C has ended it."""
    from services.cli.clips import unrated
    from services.cli.dataset_import import find_or_create
    from services.cli.rating import Ratings
    from tunesmith.client.lists import read_list
    from tunesmith.v1 import dataset_pb2

    dataset_id, created = find_or_create(client, dataset)
    if created:
        session.out.note(f"created data set {dataset}")
    known = read_list(client.datasets.ListSamples, dataset_pb2.ListSamplesRequest(dataset_id=dataset_id)).samples
    left = unrated(clips, known)
    ratings, code = Ratings(client, session.out, dataset_id, rater), ExitCode.OK
    try:
        way.rate(left, ratings, before=len(clips) - len(left))
    except KeyboardInterrupt:
        session.out.note("")
        code = ExitCode.INTERRUPT
    _tell(session, dataset, ratings, way, left=len(left) - ratings.given.total())
    return code


def _tell(session: Session, dataset: str, ratings: Ratings, way: Way, *, left: int) -> None:
    """What was given, what is left, and what to type next."""
    from tunesmith.preferences import counted

    total = ratings.total
    if session.out.format != "table":
        session.out.message(total)
        return
    session.out.pairs(
        [("dataset_id", ratings.dataset_id), ("added", total.added_count), ("duplicates", total.duplicate_count)]
    )
    rated = ratings.given.total()
    words = "no clip was rated" if left else "every clip of these runs is rated already"
    if rated:
        words = f"{counted(rated, 'clip')} rated: {way.words(ratings.given)}"
    session.out.note(words + (f"; {ratings.skipped} skipped" if ratings.skipped else ""))
    if left:
        session.out.note(f"{counted(left, 'clip')} left; type the same command again to go on")
    session.out.note(f"next: tunesmith dataset version create {dataset} --pairs --dry-run")
    session.out.note(f"next: tunesmith experiment create NAME --dataset {dataset}")
