"""A language model made in the foreground: its settings, its folder, and how it is shown and ends."""

from __future__ import annotations

import os
import shlex
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from services.cli import lm_settings
from services.cli.cache import cache_folder
from services.cli.exit_codes import ExitCode, exit_code_of
from services.cli.lm_output import DEFAULT_OUTPUT, OutputInUse, Target, target
from services.cli.lm_settings import Layer
from services.cli.lm_use import command_to_try
from services.cli.session import Session
from services.cli.setting_flags import given_flags
from services.cli.train_extra import NEEDED_FOR_TEXT, require_train_extra
from services.cli.train_foreground import LOG, diverted
from trainer_node.engines.tinylm import layout

if TYPE_CHECKING:
    from services.cli.lm_display import LiveListener, PlainListener
    from trainer_node.engines.tinylm.plan import Plan
    from trainer_node.engines.tinylm.telling import LineListener
    from trainer_node.foreground import CallbackTelemetry
    from tunesmith.v1.job_event_pb2 import JobEvent, JobFinished
    from tunesmith.v1.job_spec_pb2 import JobSpec

    _Shown = LineListener | LiveListener | PlainListener


def train_in_foreground(session: Session, keywords: Mapping[str, Any]) -> int:
    """Make a language model as a command's keywords say; returns the exit code."""
    where, layer, spec = _settings(session, keywords)
    require_train_extra(NEEDED_FOR_TEXT)
    session.out.note("loading PyTorch …")
    from trainer_node.engines.tinylm import pipeline
    from trainer_node.foreground import CallbackTelemetry, OutputFiles
    from trainer_node.outcome import ended
    from trainer_node.stop_signal import ctrl_c
    from tunesmith.v1 import job_event_pb2

    plan = _plan(where, layer, spec)
    telemetry = CallbackTelemetry(session.out.message)
    ways = _WaysOn(where.folder, begun=not where.restarts)
    with (
        _alone(where.folder),
        _saying_how_to_go_on(session, ways, telemetry),
        diverted(session, where.folder / LOG) as unread,
        _listener(session, telemetry) as listener,
        ctrl_c(lambda: listener.say(f"{_stopping(listener.stage)}; Ctrl-C again stops at once")) as stop,
    ):
        for line in lm_settings.in_words(spec, layer):
            print(line)  # into the log

        def begun() -> None:
            from trainer_node.durable import replace_file

            replace_file(where.folder / layout.CONFIG, lm_settings.written(spec, layer).encode())
            ways.begun = True

        def stops() -> bool:
            return stop() or unread()

        end = ended(lambda: pipeline.run(plan, listener, OutputFiles(), stops, begun=begun), spec)
        if end.HasField("cancelled") and session.out.format != "table":
            listener.say(ways.after(end))
        listener.event(job_event_pb2.JobEvent(finished=end))
    return _outcome(session, end, ways)


def _stopping(stage: str) -> str:
    """What is done before a training stops that was asked to."""
    return "finishing the step and writing a checkpoint" if stage == layout.TRAINING else "stopping"


@dataclass
class _WaysOn:
    """How a training that was stopped goes on. begun: it is the one in the folder, and not one before it."""

    folder: Path
    begun: bool

    def after(self, end: JobFinished) -> str:
        """What is told of a training that was stopped: what is kept of it, and how it goes on."""
        step = end.cancelled.checkpoint_step if self.begun else 0
        kept = f"a checkpoint of step {step} is kept" if step else "no step was taken yet; finished stages are kept"
        return f"stopped; {kept}. {self.words()}"

    def words(self) -> str:
        """The command; the settings are in the folder."""
        if not self.begun:
            return "The new training had not begun; give the same command again"
        return "Go on with: " + shlex.join(["tunesmith", "lm", "train", "--output", str(self.folder), "--resume"])


def _settings(session: Session, keywords: Mapping[str, Any]) -> tuple[Target, Layer, JobSpec]:
    """Where to write, and the settings in force; each that is not the default's is told with where it comes from."""
    from tunesmith import spec as specs

    own = {name: keywords[name] for name in lm_settings.OWN}
    above = [
        lm_settings.of_environment(os.environ),
        lm_settings.of_flags(given_flags(keywords), keywords["assignments"], own),
    ]
    layers = [lm_settings.of_file(keywords["config"]), *above]
    where = target(session, lm_settings.merged(layers).own.get("output", DEFAULT_OUTPUT), keywords["choice"])
    stored = where.folder / layout.CONFIG
    if where.resumes and not keywords["config"] and stored.is_file():
        layers = [lm_settings.of_file(stored), *above]
    layer = lm_settings.merged(layers)
    lm_settings.require_text_or_source(layer)
    resolved = specs.resolve(layer.spec)
    given = ", ".join(lm_settings.in_words(resolved, layer, given=True))
    session.out.note(f"writing to {where.folder}; settings: {given or 'all defaults'}")
    return where, layer, resolved


def _plan(where: Target, layer: Layer, spec: JobSpec) -> Plan:
    from trainer_node.checkpoints import latest
    from trainer_node.engines.tinylm.plan import Plan
    from tunesmith.v1 import trainer_pb2

    where.folder.mkdir(parents=True, exist_ok=True)
    return Plan(
        job=trainer_pb2.Job(spec=spec, attempt=1),
        output_dir=where.folder,
        cache_dir=layer.own.get("cache_dir", cache_folder("texts")),
        corpus_paths=[Path(path) for path in layer.own.get("corpus_path", ())],
        may_fall_back="corpus_source" not in layer.where,
        resume_dir=latest(where.folder / layout.CHECKPOINTS) if where.resumes else None,
        resumes=where.resumes,
        restart=where.restarts,
        threads=layer.own.get("threads"),
    )


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Two trainings in one folder would write over each other."""
    from trainer_node.durable import AlreadyHeld, held

    try:
        with held(folder / ".lock"):
            yield
    except AlreadyHeld as error:
        what = f"another training works in {folder}; wait for its end, or give another --output"
        raise OutputInUse(what) from error


@contextmanager
def _saying_how_to_go_on(session: Session, ways: _WaysOn, telemetry: CallbackTelemetry) -> Iterator[None]:
    """Ctrl-C twice ends at once; what was committed before is there to go on from."""
    try:
        yield
    except KeyboardInterrupt:
        tell = session.out.note if session.out.format == "table" else _log_line(telemetry.emit)
        tell(f"stopped at once. {ways.words()}")
        if threading.active_count() > 1:
            # A thread is still inside of SentencePiece. Were the interpreter taken down around it, it would abort.
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(ExitCode.INTERRUPT)
        raise


@contextmanager
def _listener(session: Session, telemetry: CallbackTelemetry) -> Iterator[_Shown]:
    """What shows the training: a live panel, plain lines, or events."""
    from services.cli.display import LineDisplay, LiveDisplay
    from services.cli.lm_display import LiveListener, PlainListener
    from trainer_node.engines.tinylm.telling import LineListener

    out = session.out
    if out.format != "table":
        yield LineListener(_log_line(telemetry.emit), telemetry.emit)
    elif out.for_people:
        with LiveDisplay(out, "language model") as display:
            yield LiveListener(display)
    else:
        yield PlainListener(out, LineDisplay(out))


def _log_line(emit: Callable[[JobEvent], None]) -> Callable[[str], None]:
    from tunesmith.v1 import job_event_pb2

    def line(text: str) -> None:
        batch = job_event_pb2.LogBatch(stream=job_event_pb2.LOG_STREAM_STDOUT, lines=[text])
        emit(job_event_pb2.JobEvent(logs=batch))

    return line


def _outcome(session: Session, end: JobFinished, ways: _WaysOn) -> int:
    """Tell how it ended; returns the exit code."""
    from services.cli import failures

    out, output = session.out, ways.folder
    if end.HasField("failed"):
        code = exit_code_of(end.failed.reason)
        code = ExitCode.RUN_FAILED if code == ExitCode.BUG else code
        hints = [f"its log is {output / LOG}"]
        failures.show(failures.Failure(end.failed.reason, end.failed.message, code, hints=hints), session)
        return code
    if end.HasField("cancelled"):
        out.note(ways.after(end))
        return ExitCode.INTERRUPT
    if out.format == "table":
        paths = {"model": layout.BEST, "tokenizer": layout.TOKENIZER, "report": layout.PAGE, "log": LOG}
        out.pairs((name, output / path) for name, path in paths.items())
    out.note(f"next: {command_to_try(str(output))}\n      less {shlex.quote(str(output / layout.PAGE))}")
    return ExitCode.OK
