"""`tunesmith run`: trainings that were asked for."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click
from click.core import ParameterSource

from services.cli.commands import LazyGroup, session_of
from services.cli.completion import EXPERIMENTS, RUNS
from services.cli.listing import limit_options, show_list
from services.cli.output import Column, enum_text

if TYPE_CHECKING:
    from tunesmith.v1.run_pb2 import Run

F = TypeVar("F", bound=Callable[..., Any])

STATES = ("queued", "starting", "running", "stopping", "paused", "succeeded", "failed", "cancelled")

COLUMNS = (
    Column("run_id", lambda run: run.run_id),
    Column("name", lambda run: run.display_name),
    Column("state", lambda run: enum_text(run, "state")),
    Column("progress", lambda run: f"{run.step}/{run.total_steps}" if run.total_steps else ""),
    Column("final_loss", lambda run: run.final_loss if run.HasField("final_loss") else ""),
    Column("why", lambda run: run.failure.reason or run.state_reason),
    Column("create_time", lambda run: run.create_time),
    Column("experiment_id", lambda run: run.experiment_id, wide=True),
    Column("adapter_id", lambda run: run.adapter_id, wide=True),
    Column("model_id", lambda run: run.model_id, wide=True),
    Column("attempt", lambda run: run.attempt, wide=True),
)
EVENT_COLUMNS = (
    Column("time", lambda event: event.time),
    Column("actor", lambda event: event.actor),
    Column("from", lambda event: enum_text(event, "from_state").replace("UNSPECIFIED", "")),
    Column("to", lambda event: enum_text(event, "to_state")),
    Column("attempt", lambda event: event.attempt or ""),
    Column("reason", lambda event: event.reason),
)
CHECKPOINT_COLUMNS = (
    Column("step", lambda one: one.step),
    Column("epoch", lambda one: one.epoch),
    Column("eval_loss", lambda one: one.eval_loss if one.HasField("eval_loss") else ""),
    Column("best", lambda one: one.best),
    Column("size_bytes", lambda one: sum(file.size_bytes for file in one.files)),
    Column("attempt", lambda one: one.attempt),
    Column("create_time", lambda one: one.create_time),
)
PREVIEW_COLUMNS = (
    Column("step", lambda one: one.step),
    Column("prompt_index", lambda one: one.prompt_index),
    Column("duration_s", lambda one: one.duration_s),
    Column("prompt", lambda one: one.prompt),
    Column("seed", lambda one: one.seed, wide=True),
    Column("digest", lambda one: one.file.digest, wide=True),
)
CLIP_COLUMNS = (
    Column("prompt_index", lambda one: one.prompt_index),
    Column("seed", lambda one: one.seed),
    Column("duration_s", lambda one: one.duration_s),
    Column("prompt", lambda one: one.prompt),
    Column("digest", lambda one: one.file.digest, wide=True),
)
TEXT_COLUMNS = (
    Column("step", lambda one: one.step),
    Column("prompt_index", lambda one: one.prompt_index),
    Column("prompt", lambda one: one.prompt, wide=True),  # the text begins with it
    Column("text", lambda one: one.text),
    Column("seed", lambda one: one.seed, wide=True),
)


@click.group(
    cls=LazyGroup,
    members={
        "submit": ("services.cli.run_submit:submit", "Queue a training and watch it."),
        "watch": ("services.cli.run_follow:watch", "Show a run live until it ends."),
        "logs": ("services.cli.run_follow:logs", "Print a run's log."),
        "metrics": ("services.cli.run_follow:metrics", "Show a run's metrics."),
    },
)
def run() -> None:
    """Submit, watch, cancel and resume trainings. A run is named by its id or a unique beginning of it."""


def run_argument(command: F) -> F:
    """Adds the argument RUN."""
    return click.argument("run_id", metavar="RUN", shell_complete=RUNS)(command)


@run.command("list")
@click.option("--experiment", default="", shell_complete=EXPERIMENTS, help="Only of this experiment.")
@click.option("--state", "states", multiple=True, type=click.Choice(STATES), help="Only in this state; repeatable.")
@limit_options
@click.pass_context
def list_(ctx: click.Context, experiment: str, states: tuple[str, ...], limit: int, every: bool) -> None:
    """List runs, newest first."""
    from tunesmith.client.names import resolve_experiment
    from tunesmith.v1 import run_pb2

    session = session_of(ctx)
    with session.client() as client:
        request = run_pb2.ListRunsRequest(states=[f"RUN_STATE_{state.upper()}" for state in states])
        if experiment:
            request.experiment_id = resolve_experiment(client, experiment)
        show_list(session, client.runs.ListRuns, request, COLUMNS, limit=limit, every=every)


@run.command()
@run_argument
@click.pass_context
def get(ctx: click.Context, run_id: str) -> None:
    """Show one run, with every setting it trains with."""
    from tunesmith.client.names import resolve_run
    from tunesmith.v1 import run_pb2

    session = session_of(ctx)
    with session.client() as client:
        response = client.runs.GetRun(run_pb2.GetRunRequest(run_id=resolve_run(client, run_id)))
    session.out.response(response, response.run)


@run.command()
@run_argument
@click.option("--wait", is_flag=True, help="Return when it has ended (exit code 8 where it was cancelled).")
@click.pass_context
def cancel(ctx: click.Context, run_id: str, wait: bool) -> int:
    """Ask a run to stop. It writes a checkpoint and ends within about 10 s; resume goes on from there.

    Cancelling twice changes nothing. Exit code 4: the run has ended already.
    """
    from services.cli.attach import exit_code_of_run
    from tunesmith.client.names import resolve_run
    from tunesmith.client.watch import watch_run
    from tunesmith.v1 import run_pb2

    session = session_of(ctx)
    with session.client() as client:
        run_id = resolve_run(client, run_id)
        response = client.runs.CancelRun(run_pb2.CancelRunRequest(run_id=run_id))
        if wait:
            for frame in watch_run(client, run_id, on_gap=session.gap):
                response.run.CopyFrom(frame.run)
        ended = response.run.state == run_pb2.RUN_STATE_CANCELLED
        resumable = (
            ended
            and client.runs.ListCheckpoints(run_pb2.ListCheckpointsRequest(run_id=run_id, page_size=1)).checkpoints
        )
    _tell(ctx, response, response.run)
    if ended and not resumable:
        session.out.note("there is no checkpoint to go on from; submit it again to begin anew")
    else:
        session.out.note(f"next: tunesmith run {'resume' if ended else 'watch'} {run_id}")
    return exit_code_of_run(response.run) if wait else 0


@run.command()
@run_argument
@click.option("--checkpoint-step", type=click.IntRange(1), help="Go on from this checkpoint instead of the last one.")
@click.option("-d", "--detach", is_flag=True, help="Return at once instead of watching.")
@click.pass_context
def resume(ctx: click.Context, run_id: str, checkpoint_step: int | None, detach: bool) -> int:
    """Queue a new run that goes on from the last checkpoint of a failed or cancelled one, and watch it.

    Same settings, same data, same order. Exit codes: 4 it cannot be resumed; else as `run watch`.
    """
    from services.cli.attach import attach
    from tunesmith.client.names import resolve_run
    from tunesmith.v1 import run_pb2

    session = session_of(ctx)
    with session.client() as client:
        request = run_pb2.ResumeRunRequest(run_id=resolve_run(client, run_id), checkpoint_step=checkpoint_step)
        response = client.runs.ResumeRun(request)
        new = response.run
        session.out.note(f"{new.run_id} goes on from step {new.resumed_from_step} of {new.resumed_from_run_id}")
        if not detach:
            return int(attach(session, client, new.run_id))
    _tell(ctx, response, new)
    session.out.note(f"next: tunesmith run watch {new.run_id}")
    return 0


def _tell(ctx: click.Context, response: Any, changed: Run) -> None:
    """What a run has become: in short for people, the response for programs."""
    out = session_of(ctx).out
    if out.format == "table":
        out.pairs([("run_id", changed.run_id), ("state", enum_text(changed, "state"))])
    else:
        out.response(response)


@run.command()
@run_argument
@click.pass_context
def report(ctx: click.Context, run_id: str) -> None:
    """Print the report of a run that has succeeded, as Markdown; with -o json the response.

    Exit code 4: it has not succeeded (yet).
    """
    from tunesmith.client.names import resolve_run
    from tunesmith.v1 import run_pb2

    session = session_of(ctx)
    with session.client() as client:
        response = client.runs.GetRunReport(run_pb2.GetRunReportRequest(run_id=resolve_run(client, run_id)))
    session.out.report(response)


@run.command()
@run_argument
@limit_options
@click.pass_context
def events(ctx: click.Context, run_id: str, limit: int, every: bool) -> None:
    """List what happened to a run, oldest first: who did what, and why."""
    from tunesmith.client.names import resolve_run
    from tunesmith.v1 import run_pb2

    session = session_of(ctx)
    with session.client() as client:
        request = run_pb2.ListRunEventsRequest(run_id=resolve_run(client, run_id))
        show_list(session, client.runs.ListRunEvents, request, EVENT_COLUMNS, limit=limit, every=every)


@run.command()
@run_argument
@limit_options
@click.pass_context
def checkpoints(ctx: click.Context, run_id: str, limit: int, every: bool) -> None:
    """List the checkpoints of a run, by step."""
    from tunesmith.client.names import resolve_run
    from tunesmith.v1 import run_pb2

    session = session_of(ctx)
    with session.client() as client:
        request = run_pb2.ListCheckpointsRequest(run_id=resolve_run(client, run_id))
        show_list(session, client.runs.ListCheckpoints, request, CHECKPOINT_COLUMNS, limit=limit, every=every)


@run.command()
@run_argument
@click.option(
    "--to", "folder", type=click.Path(file_okay=False, path_type=Path), help="Write WAV files or texts to this folder."
)
@limit_options
@click.pass_context
def previews(ctx: click.Context, run_id: str, folder: Path | None, limit: int, every: bool) -> None:
    """List what a run has generated, audio or text, or read it: step 0 is the base model.

    With --to, writes all of them unless --limit is given, of each step, prompt and seed what the last attempt left, and
    prints the path of each file; an interrupted download goes on where it stopped.
    """
    from services.cli.previews import fetch_previews, latest
    from tunesmith import spec
    from tunesmith.client.lists import read_list
    from tunesmith.client.names import resolve_run
    from tunesmith.v1 import run_pb2

    session = session_of(ctx)
    with session.client() as client:
        run_id = resolve_run(client, run_id)
        kind = spec.kind_of(client.runs.GetRun(run_pb2.GetRunRequest(run_id=run_id)).run.spec)
        columns = {"tiny_lm": TEXT_COLUMNS, "generate": CLIP_COLUMNS}.get(kind, PREVIEW_COLUMNS)
        request = run_pb2.ListPreviewsRequest(run_id=run_id)
        if folder is None:
            show_list(session, client.runs.ListPreviews, request, columns, limit=limit, every=every)
            return
        response = read_list(client.runs.ListPreviews, request)
        given = ctx.get_parameter_source("limit") is not ParameterSource.DEFAULT
        kept = latest(response.previews)[: limit if given and not every else None]
        del response.previews[:]
        response.previews.extend(kept)
        paths = fetch_previews(client, response.previews, folder, by_seed=kind == "generate")
        where = Column("path", lambda one: paths[one.step, one.prompt_index, one.seed])
        session.out.entries(response, response.previews, (where, *columns))
