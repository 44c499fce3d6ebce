"""`tunesmith run watch|logs|metrics`: what a run says, stored and live."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from services.cli.commands import ClientCommand, session_of
from services.cli.run import run_argument
from services.cli.session import Session

if TYPE_CHECKING:
    from tunesmith.client.client import Client
    from tunesmith.v1.telemetry_pb2 import LogLine, MetricSeries

DEFAULT_MAX_POINTS = 1_000


@click.command(cls=ClientCommand)
@run_argument
@click.pass_context
def watch(ctx: click.Context, run_id: str) -> int:
    """Show a run live until it ends: state, step, loss, learning rate, speed, time left.

    Reconnects by itself, without gap or repeat. Off a terminal prints one key=value line a row; with -o jsonl the
    frames. Ctrl-C leaves the run alone. Exit codes: 0 succeeded, 7 failed, 8 cancelled, 3 no such run.
    """
    from services.cli.attach import attach
    from tunesmith.client.names import resolve_run

    session = session_of(ctx)
    with session.client() as client:
        return int(attach(session, client, resolve_run(client, run_id)))


@click.command(cls=ClientCommand)
@run_argument
@click.option("-f", "--follow", is_flag=True, help="Go on until the run has ended.")
@click.option("--tail", metavar="N", type=click.IntRange(0), default=None, help="Only the last N lines (stored ones).")
@click.option("--stream", type=click.Choice(["stdout", "stderr"]), default=None, help="Only of this stream.")
@click.option("--contains", default="", metavar="TEXT", help="Only lines that hold this text.")
@click.option("--timestamps", is_flag=True, help="Put the time in front of each line.")
@click.pass_context
def logs(
    ctx: click.Context,
    run_id: str,
    follow: bool,
    tail: int | None,
    stream: str | None,
    contains: str,
    timestamps: bool,
) -> int:
    """Print a run's log to stdout.

    With --follow, goes on until the run has ended, reconnects by itself and never repeats a line. With -o jsonl one
    LogLine a line. Exit codes: 0 the run succeeded (or nothing was followed), 7 failed, 8 cancelled, 3 no such run.
    """
    from services.cli.attach import exit_code_of_run, get_run
    from tunesmith.client.lists import read_list
    from tunesmith.client.names import resolve_run
    from tunesmith.client.watch import watch_logs
    from tunesmith.v1 import job_event_pb2, telemetry_pb2

    session = session_of(ctx)
    name = f"LOG_STREAM_{stream.upper()}" if stream else "LOG_STREAM_UNSPECIFIED"
    wanted = job_event_pb2.LogStream.Value(name)
    with session.client() as client:
        run_id = resolve_run(client, run_id)
        if not follow:
            request = telemetry_pb2.QueryLogsRequest(run_id=run_id, stream=name, contains=contains)
            response = read_list(client.telemetry.QueryLogs, request)
            if tail is not None:
                del response.lines[: max(0, len(response.lines) - tail)]
            if session.out.format == "json":
                session.out.response(response)
            else:
                _print_lines(session, response.lines, timestamps)
            return 0
        if tail is not None:
            raise click.UsageError("--tail and --follow do not go together; --follow shows the log from its beginning")
        for frame in watch_logs(client, run_id, on_gap=session.gap):
            lines = [
                one
                for one in frame.lines.lines
                if wanted in (job_event_pb2.LOG_STREAM_UNSPECIFIED, one.stream) and contains in one.text
            ]
            _print_lines(session, lines, timestamps)
        return int(exit_code_of_run(get_run(client, run_id)))


def _print_lines(session: Session, lines: Any, timestamps: bool) -> None:
    line: LogLine
    for line in lines:
        if session.out.format != "table":
            session.out.message(line)
        elif timestamps:
            session.out.line(f"{line.time.ToJsonString()} {line.text}")
        else:
            session.out.line(line.text)


@click.command(cls=ClientCommand)
@run_argument
@click.option("--name", "names", multiple=True, help="Only this metric, such as loss; may be repeated.")
@click.option("--min-step", type=click.IntRange(0), default=None, help="Only from this step on.")
@click.option("--max-step", type=click.IntRange(0), default=None, help="Only up to this step.")
@click.option(
    "--max-points",
    type=click.IntRange(8, 10_000),
    default=DEFAULT_MAX_POINTS,
    show_default=True,
    help="Thin each series to so many points; its first, last, lowest and highest stay.",
)
@click.option("--points", is_flag=True, help="Print every point instead of a summary.")
@click.option("-f", "--follow", is_flag=True, help="Print rows as they come, until the run has ended.")
@click.pass_context
def metrics(
    ctx: click.Context,
    run_id: str,
    names: tuple[str, ...],
    min_step: int | None,
    max_step: int | None,
    max_points: int,
    points: bool,
    follow: bool,
) -> int:
    """Show a run's metrics: a summary of each with its curve, or every point.

    With --follow, goes on until the run has ended, without gap or repeat; -o jsonl prints the frames. Exit codes with
    --follow: 0 the run succeeded, 7 failed, 8 cancelled.
    """
    from tunesmith.client.names import resolve_run
    from tunesmith.v1 import telemetry_pb2

    session = session_of(ctx)
    with session.client() as client:
        run_id = resolve_run(client, run_id)
        if follow:
            if max_step is not None:
                raise click.UsageError("--max-step and --follow do not go together")
            return _follow_metrics(session, client, run_id, names, min_step or 0)
        request = telemetry_pb2.QueryMetricsRequest(run_id=run_id, names=names, max_points=max_points)
        if min_step is not None:
            request.min_step = min_step
        if max_step is not None:
            request.max_step = max_step
        response = client.telemetry.QueryMetrics(request)
    if session.out.format == "json":
        session.out.response(response)
    elif session.out.format == "jsonl":
        for series in response.series:
            session.out.message(series)
    elif points:
        _print_points(session, list(response.series))
    else:
        _print_summary(session, response)
    return 0


def _follow_metrics(session: Session, client: Client, run_id: str, names: tuple[str, ...], min_step: int) -> int:
    from services.cli.attach import exit_code_of_run, get_run
    from services.cli.progress import rows_of
    from tunesmith.client.watch import watch_metrics

    for frame in watch_metrics(client, run_id, names=names, min_step=min_step, on_gap=session.gap):
        if session.out.format != "table":
            session.out.message(frame)
            continue
        for batch in frame.rows.batches:
            for row in rows_of(batch):
                session.out.pairs([("step", row.step), *row.values.items()])
    return int(exit_code_of_run(get_run(client, run_id)))


def _print_points(session: Session, series: list[MetricSeries]) -> None:
    """One line a step, with every metric that has a point there."""
    rows: dict[int, list[tuple[str, object]]] = {}
    for one in series:
        for step, value in zip(one.steps, one.values, strict=True):
            rows.setdefault(step, [("step", step)]).append((one.name, value))
    for step in sorted(rows):
        session.out.pairs(rows[step])


def _print_summary(session: Session, response: Any) -> None:
    from services.cli.output import Column, enum_text
    from services.cli.progress import sparkline

    if not response.series:
        why = {"NO_METRICS_RECORDED": "the run has no metrics yet", "NO_MATCH": "no metric with these names and steps"}
        session.out.note(why.get(enum_text(response, "empty_reason"), "no metrics"))
        return

    def finite(one: MetricSeries) -> list[float]:
        return [value for value in one.values if value - value == 0]

    columns = [
        Column("name", lambda one: one.name),
        Column("points", lambda one: one.total_points),
        Column("first", lambda one: one.values[0] if one.values else ""),
        Column("last", lambda one: one.values[-1] if one.values else ""),
        Column("min", lambda one: min(finite(one), default="")),
        Column("max", lambda one: max(finite(one), default="")),
        Column("not_finite", lambda one: len(one.non_finite_steps)),
    ]
    if session.out.for_people:
        columns.append(Column("curve", lambda one: sparkline(list(one.values), 24)))
    session.out.entries(response, response.series, columns)
    state = "the run has ended" if response.complete else "the run goes on"
    if session.out.for_people:
        session.out.note(state)
