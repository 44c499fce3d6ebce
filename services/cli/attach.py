"""Following a run until it ends: its state and its metrics in one stream, and the exit code that its end means."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from services.cli.display import display_for, show_outcome
from services.cli.exit_codes import ExitCode
from services.cli.progress import unit_of
from services.cli.session import Session

if TYPE_CHECKING:
    from services.cli.display import Display
    from tunesmith.client.client import Client
    from tunesmith.v1.model_pb2 import Model
    from tunesmith.v1.run_pb2 import Run
    from tunesmith.v1.telemetry_pb2 import WatchLogsResponse

RECENT_STEPS = 1_000  # a terminal shows where a run is now; programs get its rows from the first on
RECENT_LINES = 100  # of a log that was written before


def exit_code_of_run(run: Run) -> ExitCode:
    """What the end of a run means for the command that followed it; OK for one that has not ended."""
    from tunesmith.v1 import run_pb2

    codes = {
        run_pb2.RUN_STATE_FAILED: ExitCode.RUN_FAILED,
        run_pb2.RUN_STATE_CANCELLED: ExitCode.RUN_CANCELLED,
    }
    return codes.get(run.state, ExitCode.OK)


def get_run(client: Client, run_id: str) -> Run:
    """The run as it is now."""
    from tunesmith.v1 import run_pb2

    return client.runs.GetRun(run_pb2.GetRunRequest(run_id=run_id)).run


def attach(session: Session, client: Client, run_id: str, *, title: str = "") -> ExitCode:
    """Show a run until it ends; returns its exit class. Ctrl-C leaves it alone and says how to come back."""
    try:
        run = follow(session, client, run_id, title=title)
    except KeyboardInterrupt:
        session.out.note(
            f"detached; the run goes on. Come back: tunesmith run watch {run_id}\n"
            f"                           Stop it:   tunesmith run cancel {run_id}"
        )
        return ExitCode.INTERRUPT
    show_outcome(session.out, run, _made(client, run))
    return exit_code_of_run(run)


def _made(client: Client, run: Run) -> Model | None:
    """The language model that a run has made, if it has."""
    from tunesmith.v1 import model_pb2

    if not run.model_id:
        return None
    return client.models.GetModel(model_pb2.GetModelRequest(model_id=run.model_id)).model


def follow(session: Session, client: Client, run_id: str, *, title: str = "") -> Run:
    """Draw a run until it has ended and its last row was shown; returns it as it ended.

    A language model is told by its log as well: its stages, its epochs, and what it writes.
    """
    from tunesmith.client.watch import merged, watch_logs, watch_metrics, watch_run
    from tunesmith.v1 import run_pb2, telemetry_pb2

    run = get_run(client, run_id)
    out = session.out
    streams: list[Iterator[Any]] = [
        watch_run(client, run_id, on_gap=session.gap),
        watch_metrics(client, run_id, min_step=max(0, run.step - RECENT_STEPS) if out.for_people else 0),
    ]
    if out.format != "table":
        for frame in merged(*streams):
            out.message(frame)
        return get_run(client, run_id)
    tells_itself = run.spec.HasField("tiny_lm")
    if tells_itself:
        streams.append(watch_logs(client, run_id))
    name = title or run.display_name or run_id
    with display_for(out, name, tells_validations=not tells_itself, unit=unit_of(run)) as display:
        for frame in merged(*streams):
            if isinstance(frame, run_pb2.WatchRunResponse):
                display.run(frame.run)
            elif isinstance(frame, telemetry_pb2.WatchLogsResponse):
                _say_log(display, frame)
            else:
                for batch in frame.rows.batches:
                    display.metrics(batch)
    return get_run(client, run_id)


def _say_log(display: Display, frame: WatchLogsResponse) -> None:
    """The lines of a training itself, not those of its libraries; the last of many."""
    from tunesmith.v1 import job_event_pb2

    lines = [line.text for line in frame.lines.lines if line.stream == job_event_pb2.LOG_STREAM_STDOUT]
    if len(lines) > RECENT_LINES:
        display.say(f"… {len(lines) - RECENT_LINES:,} lines before; `tunesmith run logs` prints all")
    for line in lines[-RECENT_LINES:]:
        display.say(line)
