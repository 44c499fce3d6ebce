"""`tunesmith adapter evaluate` and `evaluations`: what an adapter has learnt, measured by listening."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from services.cli.commands import ClientCommand, session_of
from services.cli.completion import ADAPTERS, RUNS
from services.cli.generate_submit import read_prompts
from services.cli.listing import limit_options, show_list
from services.cli.output import Column
from services.evaluation_words import difference, level, subject

if TYPE_CHECKING:
    from services.cli.ears import Ears
    from services.cli.evaluating import Evaluation
    from services.cli.session import Session
    from tunesmith.client.client import Client
    from tunesmith.v1.adapter_pb2 import Adapter, CreateAdapterEvaluationResponse

    Prepare = Callable[[Client, Adapter], Evaluation]

BASE = "base"  # what an adapter is compared with, where nobody names another adapter
MOST_CLIPS = 500  # of a kind of question: a run plays 1,000 prompts at most
CLIP_S = 5.0  # as the contract's default
PLAYED = ("against", "prompts", "prompts_file", "clips", "seed", "clip_s")  # options that runs have answered already

MEASURES = (
    Column("measure", lambda one: one.name),
    Column("clips", lambda one: one.clip_count),
    Column("before", lambda one: level(one, one.before)),
    Column("after", lambda one: level(one, one.after)),
    Column("difference", lambda one: difference(one)),
)
EVALUATIONS = (
    Column("evaluation_id", lambda one: one.evaluation_id),
    Column("heard", subject),
    Column("measure", lambda one: one.measures[0].name),
    Column("difference", lambda one: difference(one.measures[0])),
    Column("create_time", lambda one: one.create_time),
    Column("scorer", lambda one: one.scorer, wide=True),
    Column("before_run_id", lambda one: one.before_run_id, wide=True),
    Column("after_run_id", lambda one: one.after_run_id, wide=True),
)


@click.command(cls=ClientCommand)
@click.argument("adapter", shell_complete=ADAPTERS)
@click.option("--wish", multiple=True, metavar="NAME=VALUE", help="What is wished for, such as mode=major; repeatable.")
@click.option(
    "--scorer", metavar="MODULE:FUNCTION", help="Judge by (wave, rate_hz, prompt) -> {name: number}; runs here."
)
@click.option(
    "--prompt",
    "prompts",
    multiple=True,
    metavar="TEXT",
    help="What to play, in place of a wish's own questions; repeatable.",
)
@click.option(
    "--prompts-file",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="The same, a prompt a line.",
)
@click.option(
    "--against",
    default=BASE,
    show_default=True,
    metavar="ADAPTER|base",
    shell_complete=ADAPTERS,
    help="What is before.",
)
@click.option(
    "--runs",
    nargs=2,
    metavar="RUN RUN",
    shell_complete=RUNS,
    help="Go on with what two runs play, before and after, in place of new ones.",
)
@click.option(
    "--clips",
    type=click.IntRange(2, MOST_CLIPS),
    default=96,
    show_default=True,
    help="Clips of each kind of question, or in all of prompts of yours, at least; more narrow the intervals.",
)
@click.option("--seed", type=click.IntRange(0, 2**31 - 1), default=0, show_default=True, help="Decides what is played.")
@click.option("--clip-s", type=float, help="Length of a clip in seconds. [default: 3.84 for a wish, else 5]")
@click.pass_context
def evaluate(ctx: click.Context, /, adapter: str, runs: tuple[str, str] | None, **asked: Any) -> None:
    """Measure what an adapter has learnt, by listening to clips before and after it.

    Two runs play the same prompts with the same seeds: the base model, or another adapter, and ADAPTER. Their clips are
    heard on this machine, and what is measured is stored with the adapter; its report shows it. --runs hears clips
    again that an earlier evaluation has played.

    --wish asks the listener of the micro model's world: open prompts leave what is wished for open, opposite ones ask
    for the contrary. Any other model is judged by a --scorer on prompts of yours: a Python function, looked for in this
    folder, too. Intervals are of 95 %.

    Ctrl-C leaves the runs alone. Exit codes: 2 a wish, a prompt or the scorer is wrong, or runs play something else, 3
    no such adapter or run, 4 a clip is missing, 7 a run failed, 8 one was cancelled.
    """
    session = session_of(ctx)
    prepare = _go_on(ctx, *runs, **asked) if runs else _begin(**asked)
    with session.client() as client:
        evaluation = prepare(client, _adapter(client, adapter))
        response = evaluation.carry_out(session, client)
    _show(session, response, f"{evaluation.adapter.name}@{evaluation.adapter.version}")


def _begin(
    *,
    wish: Sequence[str],
    scorer: str | None,
    prompts: Sequence[str],
    prompts_file: Path | None,
    against: str,
    clips: int,
    seed: int,
    clip_s: float | None,
) -> Prepare:
    """An evaluation whose runs are to be submitted."""
    from services.cli import ears
    from services.cli.evaluating import Evaluation
    from trainer_node.tunes.wish import parse_wish
    from trainer_node.tunes.world import DURATION_S
    from tunesmith.v1 import job_spec_pb2

    given = list(dict.fromkeys([*prompts, *(read_prompts(prompts_file) if prompts_file else ())]))
    judge = _judge(wish, scorer)
    if given:
        judged = judge(given, clips_per_prompt=ears.clips_each(len(given), clips))
    elif scorer:
        raise click.UsageError("what is to be played for the scorer? give --prompt or --prompts-file")
    else:
        judged = ears.Listener.asking(parse_wish(wish), clips=clips, seed=seed)
    generation = job_spec_pb2.GenerationSettings(
        prompts=judged.prompts,
        clips_per_prompt=judged.clips_per_prompt,
        seed=seed,
        clip_s=clip_s if clip_s is not None else DURATION_S if wish else CLIP_S,
    )

    def prepare(client: Client, adapter: Adapter) -> Evaluation:
        before = None if against == BASE else _adapter(client, against)
        if before and before.adapter_id == adapter.adapter_id:
            raise click.UsageError("it is compared with itself; give another adapter to --against, or leave it out")
        return Evaluation(adapter=adapter, before=before, ears=judged, generation=generation)

    return prepare


def _go_on(
    ctx: click.Context, before: str, after: str, *, wish: Sequence[str], scorer: str | None, **_: Any
) -> Prepare:
    """An evaluation of what two runs play."""
    from services.cli.attach import get_run
    from services.cli.evaluating import AFTER, BEFORE, Evaluation, generation_of
    from tunesmith.client.names import resolve_run

    given = [
        option.opts[0]
        for option in ctx.command.params
        if option.name in PLAYED and ctx.get_parameter_source(option.name) is not ParameterSource.DEFAULT
    ]
    if given:
        raise click.UsageError(f"the runs say what is played; leave out {', '.join(given)}, or --runs to play anew")
    judge = _judge(wish, scorer)

    def prepare(client: Client, adapter: Adapter) -> Evaluation:
        runs = {side: resolve_run(client, run) for side, run in ((BEFORE, before), (AFTER, after))}
        generation = generation_of(adapter, *(get_run(client, run_id) for run_id in runs.values()))
        _require_distinct(after, generation.prompts)
        judged = judge(generation.prompts, clips_per_prompt=generation.clips_per_prompt)
        return Evaluation(adapter=adapter, ears=judged, generation=generation, runs=runs)

    return prepare


def _require_distinct(run: str, prompts: Sequence[str]) -> None:
    """Raise UsageError where a run plays a prompt twice, which with the same seeds is the same clip."""
    if twice := [prompt for place, prompt in enumerate(prompts) if prompt in prompts[:place]]:
        raise click.UsageError(
            f"{run} plays {twice[0]!r} twice, so its clips count twice; leave out --runs to play anew"
        )


def _judge(wish: Sequence[str], scorer: str | None) -> Callable[..., Ears[Any]]:
    """Who listens to answers to prompts that are given. Raises UsageError where that is not said once."""
    from services.cli import ears
    from trainer_node.tunes.wish import parse_wish

    if bool(wish) == bool(scorer):
        raise click.UsageError("who listens? give --wish NAME=VALUE, or --scorer MODULE:FUNCTION")
    if scorer:
        return partial(ears.Scorer.of, scorer)
    return partial(ears.Listener.hearing, parse_wish(wish))


def _adapter(client: Client, text: str) -> Adapter:
    from tunesmith.client.names import resolve_adapter
    from tunesmith.v1 import adapter_pb2

    request = adapter_pb2.GetAdapterRequest(adapter_id=resolve_adapter(client, text))
    return client.adapters.GetAdapter(request).adapter


def _show(session: Session, response: CreateAdapterEvaluationResponse, name: str) -> None:
    """A row for each measure and the id for people, the response for programs."""
    if session.out.format != "table":
        session.out.response(response)
        return
    session.out.entries(response, response.evaluation.measures, MEASURES)
    session.out.pairs([("evaluation_id", response.evaluation.evaluation_id)])
    session.out.note(f"next: tunesmith adapter report {name}")


@click.command(cls=ClientCommand)
@click.argument("adapter", shell_complete=ADAPTERS)
@limit_options
@click.pass_context
def evaluations(ctx: click.Context, adapter: str, limit: int, every: bool) -> None:
    """List what was measured of an adapter, newest first; `tunesmith adapter report` shows it in full."""
    from tunesmith.client.names import resolve_adapter
    from tunesmith.v1 import adapter_pb2

    session = session_of(ctx)
    with session.client() as client:
        request = adapter_pb2.ListAdapterEvaluationsRequest(adapter_id=resolve_adapter(client, adapter))
        show_list(session, client.adapters.ListAdapterEvaluations, request, EVALUATIONS, limit=limit, every=every)
