"""`tunesmith train`: the same training as a run's, in the foreground, with no control plane."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from services.cli.commands import LazyGroup, LocalCommand, session_of
from services.cli.display import Display, display_for
from services.cli.exit_codes import ExitCode, exit_code_of
from services.cli.session import Session
from services.cli.settings_input import given_flags, read_mapping, set_option, setting_flags, spec_of
from services.cli.train_extra import require_train_extra

if TYPE_CHECKING:
    from tunesmith.v1.job_event_pb2 import JobEvent, JobFinished
    from tunesmith.v1.job_spec_pb2 import JobSpec

LOG = "train.log"  # in the output folder


@click.group(cls=LazyGroup)
def train() -> None:
    """Train in the foreground, without a control plane."""


@train.command(cls=LocalCommand)
@click.option(
    "--dataset",
    required=True,
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="JSONL or CSV with audio, prompt and rating; audio paths are relative to it.",
)
@click.option("--base-model", metavar="DIR|HF_ID", help="Folder, or Hugging Face id such as facebook/musicgen-small.")
@click.option(
    "--output",
    required=True,
    type=click.Path(file_okay=False, path_type=Path),
    help="Folder for checkpoints, previews, the adapter and the report.",
)
@click.option(
    "--config",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="YAML with settings below `supervised`.",
)
@click.option("--min-rating", type=float, default=None, help="Leave out clips that are rated lower.")
@click.option("--resume", is_flag=True, help="Go on from the newest whole checkpoint in the output folder.")
@click.option("--threads", type=click.IntRange(1), default=None, help="CPU threads.")
@click.option("--device", default=None, help="Such as cpu or cuda:0; the first GPU where not given, else the CPU.")
@set_option
@setting_flags(without=("base_model",))
@click.pass_context
def supervised(ctx: click.Context, /, dataset: Path, output: Path, min_rating: float | None, **keywords: Any) -> int:
    """Train a LoRA adapter on rated clips, their prompts as conditioning.

    Settings: flags and --set over --config over defaults; unknown keys are refused. Ctrl-C finishes the step, writes a
    checkpoint and ends; twice stops at once. --resume goes on bit by bit as if nothing had happened (on a CPU). With
    -o jsonl every event is printed.

    Exit codes: 0 trained, 2 a setting or the data is wrong, 7 the training failed, 9 the base model or disk space is
    missing, 130 Ctrl-C.
    """
    session = session_of(ctx)
    spec, models_dir = _spec(keywords)
    require_train_extra()
    session.out.note("checking the data and loading PyTorch …")
    from trainer_node.data.jsonl import digest_of, read_rated_file, training_samples
    from trainer_node.foreground import run_foreground
    from trainer_node.stop_signal import ctrl_c

    samples = training_samples(read_rated_file(dataset), min_rating=min_rating)
    stopping = "finishing the step and writing a checkpoint; Ctrl-C again stops at once"
    with (
        _saying_how_to_go_on(session, output),
        _diverted(session, output / LOG),
        display_for(session.out, f"training {output.name}") as display,
        ctrl_c(lambda: display.say(stopping)) as stop,
    ):
        end = run_foreground(
            spec,
            samples,
            models_dir=models_dir,
            output_dir=output,
            on_event=_shower(session, display),
            resume=keywords["resume"],
            stop=stop,
            dataset_digest=digest_of(dataset),
            threads=keywords["threads"],
            device=keywords["device"],
        )
    return _outcome(session, end, output)


@contextmanager
def _saying_how_to_go_on(session: Session, output: Path) -> Iterator[None]:
    """Ctrl-C twice ends at once; what was committed before is there to go on from."""
    from trainer_node.checkpoints import checkpoints

    try:
        yield
    except KeyboardInterrupt:
        kept = checkpoints(output / "checkpoints")
        after = f"go on with: {_command('--resume')}" if kept else "there is no checkpoint yet"
        session.out.note(f"stopped at once; {after}")
        raise


@contextmanager
def _diverted(session: Session, log: Path) -> Iterator[None]:
    """Send what the training prints to a file, as a node does, and leave the terminal to the display."""
    out = session.out
    out.stdout, out.stderr = sys.stdout, sys.stderr
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("a", buffering=1, encoding="utf-8") as file, redirect_stdout(file), redirect_stderr(file):
        yield


def _spec(keywords: dict[str, Any]) -> tuple[JobSpec, Path]:
    """The settings, and the folder in which the base model is found by its name."""
    from tunesmith import spec as specs

    flags = given_flags(keywords)
    models_dir = Path("models")
    if base_model := keywords["base_model"]:
        folder = Path(base_model).expanduser()
        if folder.is_dir():
            models_dir, base_model = folder.resolve().parent, folder.resolve().name
        elif base_model[0] in "/.~" or base_model.count("/") > 1:
            raise click.UsageError(
                f"--base-model {base_model}: no such folder; make one with `tunesmith model make-tiny`"
            )
        flags["base_model"] = base_model
    spec = spec_of(read_mapping(keywords["config"]), keywords["assignments"], flags)
    if specs.kind_of(spec) not in ("", "supervised"):
        raise click.UsageError(f"{keywords['config']} is for {specs.kind_of(spec)}, not for supervised")
    specs.resolve(spec)  # every problem is told now, before anything is loaded
    return spec, models_dir


def _shower(session: Session, display: Display) -> Callable[[JobEvent], None]:
    """What to do with each event: shown as a run that has no id."""
    from tunesmith.v1 import run_pb2

    ends = {
        "succeeded": run_pb2.RUN_STATE_SUCCEEDED,
        "failed": run_pb2.RUN_STATE_FAILED,
        "cancelled": run_pb2.RUN_STATE_CANCELLED,
    }

    def show(event: JobEvent) -> None:
        if session.out.format != "table":
            session.out.message(event)
        elif event.HasField("started"):
            started = event.started
            display.run(
                run_pb2.Run(
                    state=run_pb2.RUN_STATE_RUNNING,
                    step=started.resumed_step,
                    total_steps=started.total_steps,
                    total_epochs=started.total_epochs,
                )
            )
            display.say(
                f"{started.training_samples} samples to train on, {started.validation_samples} held out; "
                f"{started.trainable_parameters:,} numbers to train; {started.device}"
            )
        elif event.HasField("metrics"):
            display.metrics(event.metrics)
        elif event.HasField("logs"):
            for line in event.logs.lines:
                display.say(line)
        elif event.HasField("checkpoint_saved"):
            best = ", the best so far" if event.checkpoint_saved.best else ""
            display.say(f"checkpoint at step {event.checkpoint_saved.step}{best}")
        elif event.HasField("preview_saved"):
            display.say(f"preview at step {event.preview_saved.step}: {event.preview_saved.prompt}")
        elif event.HasField("finished"):
            display.run(run_pb2.Run(state=ends[event.finished.WhichOneof("outcome") or "failed"]))

    return show


def _outcome(session: Session, end: JobFinished, output: Path) -> int:
    """Tell how it ended; returns the exit code."""
    from services.cli import failures

    if end.HasField("failed"):
        failed = end.failed
        hints = [f"| {line}" for line in failed.stderr_tail.splitlines()[-20:]] or [f"its log is {output / LOG}"]
        code = exit_code_of(failed.reason)
        code = ExitCode.RUN_FAILED if code == ExitCode.BUG else code
        failures.show(failures.Failure(failed.reason, failed.message, code, hints=hints), session)
        return code
    if end.HasField("cancelled"):
        step = end.cancelled.checkpoint_step
        session.out.note(
            f"stopped; a checkpoint of step {step} is kept. Go on with: {_command('--resume')}"
            if step
            else "stopped before there was anything to keep; start again when you like"
        )
        return ExitCode.INTERRUPT
    if session.out.format == "table":
        paths = {"adapter": output / "adapter", "report": output / "report.md", "log": output / LOG}
        session.out.pairs(paths.items())
    session.out.note(f"next: less {output / 'report.md'}")
    return ExitCode.OK


def _command(extra: str) -> str:
    given = [part for part in sys.argv[1:] if part != extra]
    return shlex.join(["tunesmith", *given, extra])
