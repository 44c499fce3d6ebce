"""A training in the foreground, of whatever kind: its settings, its data, and how it is shown and ends."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from services.cli.base_models import models_dir_and_name
from services.cli.derivation_flags import PAIRS, RANKED_LISTS, wanted_derivation
from services.cli.display import Display, display_for, run_of
from services.cli.exit_codes import ExitCode, exit_code_of
from services.cli.reader import while_read
from services.cli.session import Session
from services.cli.setting_flags import given_flags
from services.cli.settings_input import read_mapping, spec_of, with_kind
from services.cli.train_extra import require_train_extra

if TYPE_CHECKING:
    from trainer_node.data.training_data import TrainingData
    from tunesmith.v1.job_event_pb2 import JobEvent, JobFinished
    from tunesmith.v1.job_spec_pb2 import JobSpec

LOG = "train.log"  # in the output folder
DERIVED = {"dpo": PAIRS, "ranking": RANKED_LISTS}
EXAMPLES = {"supervised": "clips", "dpo": "pairs", "ranking": "lists"}


def train_in_foreground(session: Session, kind: str, keywords: Mapping[str, Any]) -> int:
    """Train as a command's keywords say; returns the exit code."""
    spec, models_dir = _spec(kind, keywords)
    require_train_extra()
    session.out.note("checking the data and loading PyTorch …")
    from trainer_node.data.jsonl import digest_of
    from trainer_node.foreground import run_foreground
    from trainer_node.stop_signal import ctrl_c

    output = keywords["output"]
    data = _data(kind, keywords)
    session.out.note(data.summary())
    stopping = "finishing the step and writing a checkpoint; Ctrl-C again stops at once"
    with (
        _saying_how_to_go_on(session, output),
        diverted(session, output / LOG) as unread,
        display_for(session.out, f"training {output.name}") as display,
        ctrl_c(lambda: display.say(stopping)) as stop,
    ):
        end = run_foreground(
            spec,
            data.samples,
            comparisons=data.comparisons,
            derivation=data.derivation,
            start_adapter_dir=keywords["start_adapter"],
            models_dir=models_dir,
            output_dir=output,
            on_event=_shower(session, display, EXAMPLES[kind]),
            resume=keywords["resume"],
            stop=lambda: stop() or unread(),
            dataset_digest=digest_of(keywords["dataset"]),
            threads=keywords["threads"],
            device=keywords["device"],
        )
    return _outcome(session, end, output)


def _data(kind: str, keywords: Mapping[str, Any]) -> TrainingData:
    """What the file gives to train on. Raises DatasetFileInvalid, DataInvalid, InvalidField."""
    from trainer_node.data.jsonl import read_dataset_file
    from trainer_node.data.training_data import TrainingData, derived_comparisons, training_data

    wanted = wanted_derivation(DERIVED[kind], keywords) if kind in DERIVED else None
    file = read_dataset_file(keywords["dataset"])
    if wanted is None:
        return training_data(file, kind, min_rating=keywords["min_rating"])
    comparisons, derivation = derived_comparisons(file, wanted)
    return TrainingData(comparisons=comparisons, derivation=derivation)


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
def diverted(session: Session, log: Path) -> Iterator[Callable[[], bool]]:
    """Send what the training prints to a file, as a node does, and leave the terminal to the display.

    Gives the question whether the reader of what is shown has gone: a training is stopped then as by Ctrl-C.
    """
    out = session.out
    unread = False

    def gone() -> None:
        nonlocal unread
        if not unread:
            unread = True
            out.note("nobody reads the output any more, so this stops as after Ctrl-C")

    out.stdout, out.stderr = while_read(sys.stdout, gone), while_read(sys.stderr, gone)
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("a", buffering=1, encoding="utf-8") as file, redirect_stdout(file), redirect_stderr(file):
        yield lambda: unread


def _spec(kind: str, keywords: Mapping[str, Any]) -> tuple[JobSpec, Path]:
    """The settings, and the folder in which the base model is found by its name."""
    from tunesmith import spec as specs

    flags = given_flags(keywords)
    models_dir, base_model = models_dir_and_name(keywords["base_model"] or "")
    if base_model:
        flags["base_model"] = base_model
    spec = spec_of(with_kind(read_mapping(keywords["config"]), otherwise=kind), keywords["assignments"], flags)
    if specs.kind_of(spec) != kind:
        raise click.UsageError(f"{keywords['config']} is for {specs.kind_of(spec)}, not for {kind}")
    if keywords["start_adapter"]:
        from trainer_node.start_adapter import adopt

        spec = adopt(spec, keywords["start_adapter"])
    specs.resolve(spec)  # every problem is told now, before anything is loaded
    return spec, models_dir


def _shower(session: Session, display: Display, examples: str) -> Callable[[JobEvent], None]:
    """What to do with each event: shown as a run that has no id. examples: what is trained on, such as `pairs`."""
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
            display.run(run_of(started))
            display.say(
                f"{started.training_samples} {examples} to train on, {started.validation_samples} held out; "
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
