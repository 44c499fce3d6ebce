"""`tunesmith demo`: the whole loop on this machine, from a wish to adapters that can be heard to fulfil it.

Nothing in the product knows of the demo; what it does, a user can do with the commands that it names at the end.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING

import click

from services.cli.commands import LocalCommand, session_of
from services.cli.exit_codes import ExitCode
from services.cli.train_extra import require_train_extra
from services.cli.typed import typed

if TYPE_CHECKING:
    from collections.abc import Mapping

    from services.cli.demo_loop import Loop

_HOW_TO_RATE = """
A listener rates by the wish {wish}, and errs over {noise:.0%} of the clips. People rate the same way, by ear:
  tunesmith dataset rate MINE --run {run_id}"""

_NEXT = """
What to type next
  tunesmith up --data-dir {data_dir}
in one terminal, to start it again with all of this in it; and in another
  tunesmith adapter list
  tunesmith adapter report {name}
  tunesmith run previews {run_id} --to clips
  tunesmith dataset rate mine --run {run_id}
  tunesmith run submit --experiment {name} --training-type preference --dataset mine --base-model {model}
Other wishes: tunesmith demo --wish register=high. Your own music: tunesmith dataset import --help, and
facebook/musicgen-small as --base-model."""


@click.command(cls=LocalCommand)
@click.option(
    "--wish",
    "wishes",
    multiple=True,
    default=("mode=major",),
    show_default=True,
    metavar="NAME=VALUE",
    help="What the rater likes: register, tempo, mode, timbre or pattern; repeatable.",
)
@click.option(
    "--noise", type=click.FloatRange(0, 1), default=0.1, show_default=True, help="How often the rater errs, 0 to 1."
)
@click.option(
    "--data-dir",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path("var/demo"),
    show_default=True,
    help="Where everything is kept; a second demo goes on with it.",
)
@click.pass_context
def demo(ctx: click.Context, wishes: tuple[str, ...], noise: float, data_dir: Path) -> int:
    """Play, rate, train and listen: the whole loop, in three minutes.

    Starts everything on this machine, has the micro model play clips, has a listener rate them by a wish, trains three
    adapters by their ratings (supervised, dpo, ranking), and tells how much more of the wish is heard afterwards, with
    WAV files to compare. Needs no network. Ctrl-C cancels what runs and stops. Exit codes: 0 trained, 2 there is no
    such wish, 7 a run failed, 8 one was cancelled, 9 the machine lacks something, 130 Ctrl-C.
    """
    from services.cli.demo_loop import Loop
    from services.cli.local_services import local_services
    from trainer_node.tunes.wish import parse_wish

    wish = parse_wish(wishes)
    require_train_extra()
    session, log = session_of(ctx), data_dir / "demo.log"
    data_dir.mkdir(parents=True, exist_ok=True)
    print(f"Tunesmith demo in {data_dir}; the services write to {log}", flush=True)
    step = Steps()
    with local_services(data_dir, log) as address:
        step.done(f"Postgres, control plane and a trainer node answer at {address}")
        session.server = address
        with session.client() as client:
            loop = Loop(session=session, client=client, wish=wish, noise=noise)
            try:
                _go_round(loop, step, data_dir)
            except KeyboardInterrupt:
                print("\nstopping what runs", flush=True)
                loop.cancel()
                raise
    return ExitCode.OK


class Steps:
    """Says what is done, and how long it took."""

    def __init__(self) -> None:
        self._begun = time.monotonic()

    def done(self, what: str) -> None:
        """One step is done; the next begins."""
        print(f"✓ {what} ({time.monotonic() - self._begun:.1f} s)", flush=True)
        self._begun = time.monotonic()


def _go_round(loop: Loop, step: Steps, data_dir: Path) -> None:
    """Clips, ratings, adapters, and what is heard of them."""
    from services.cli.demo_loop import CLIPS_EACH, MODEL, TRAININGS

    run_id = loop.play()
    step.done(f"{MODEL} has played {CLIPS_EACH} clips for each of {len(loop.prompts)} prompts that leave the wish open")
    print(typed(_HOW_TO_RATE.format(wish=loop.wished, noise=loop.noise, run_id=run_id)), flush=True)
    step.done(f"rated into the data set {loop.name}: {loop.rate(run_id)}")
    adapters = {}
    for kind in TRAININGS:
        adapters[kind], learnt_from = loop.train(kind)
        step.done(f"{kind}: {adapters[kind].name}@{adapters[kind].version} learnt from {learnt_from}")
    heard = loop.listen(adapters)
    step.done("heard" + (", on prompts that no adapter was trained on" if heard.unseen else ""))
    for line in heard.lines():
        print(line)
    _show_clips(loop.example(heard.runs, data_dir / "listen"))
    print(typed(_NEXT.format(data_dir=data_dir, run_id=run_id, name=loop.name, model=MODEL)), flush=True)


def _show_clips(paths: Mapping[str, tuple[str, Path]]) -> None:
    """What to listen to. paths: prompt and file, by who plays."""
    prompt = next(iter(paths.values()))[0]
    print(f"\nListen   {prompt}")
    for player, (_, path) in paths.items():
        print(f"  {player:<10}  {path}")
