"""Drawing how a language model is made: stages and epochs as lines, and on a terminal a bar below them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from services.cli.display import LineDisplay, LiveDisplay, run_of
from services.cli.output import Output

if TYPE_CHECKING:
    from trainer_node.engines.tinylm.progress import EpochSummary
    from trainer_node.engines.tinylm.telling import StageEnd, TextSample
    from tunesmith.v1.job_event_pb2 import JobEvent


class PlainListener:
    """`key=value` lines for what is not a terminal: one a stage, a metric row, an epoch and a sample."""

    def __init__(self, out: Output, display: LineDisplay) -> None:
        self._out, self._display = out, display
        self._places: dict[str, str] = {}
        self.stage = ""  # that is worked on

    def planned(self, stages: Sequence[str]) -> None:
        """Numbers them."""
        self._places = _places(stages)

    def began(self, stage: str, why: str) -> None:
        """One line."""
        self.stage = stage
        facts = [("stage", self._places[stage]), ("name", stage), ("state", "begun"), ("again", why)]
        self._out.pairs((key, value) for key, value in facts if value)

    def doing(self, what: str) -> None:
        """Nothing: it comes too often."""

    def ended(self, end: StageEnd) -> None:
        """One line."""
        state = "unchanged" if end.unchanged else "done"
        facts: list[tuple[str, object]] = [("stage", self._places[end.name]), ("name", end.name), ("state", state)]
        self._out.pairs([*facts, ("seconds", f"{end.seconds:.1f}"), ("what", end.said)])

    def epoch(self, summary: EpochSummary, epochs: int) -> None:
        """One line."""
        facts = [
            ("epoch", f"{summary.epoch}/{epochs}"),
            ("train_loss", f"{summary.train_loss:.4f}"),
            ("validation_loss", "" if summary.validation_loss is None else f"{summary.validation_loss:.4f}"),
            ("learning_rate", f"{summary.learning_rate:.3g}"),
            ("tokens_per_s", f"{summary.tokens_per_s:.0f}"),
            ("seconds", f"{summary.seconds:.1f}"),
        ]
        self._out.pairs((key, value) for key, value in facts if value)

    def sampled(self, sample: TextSample) -> None:
        """One line."""
        self._out.pairs([("sample_epoch", sample.epoch), ("prompt", sample.prompt), ("text", sample.text)])

    def say(self, text: str, *, loud: bool = False) -> None:
        """A note."""
        self._out.note(_note(text, loud))

    def event(self, event: JobEvent) -> None:
        """What lines do not tell already."""
        _show(event, self._display)


class LiveListener:
    """Lines that scroll, and a bar that stays below them."""

    def __init__(self, display: LiveDisplay) -> None:
        self._display = display
        self._places: dict[str, str] = {}
        self.stage = ""  # that is worked on

    def planned(self, stages: Sequence[str]) -> None:
        """Numbers them."""
        self._places = _places(stages)

    def began(self, stage: str, why: str) -> None:
        """Below the lines."""
        self.stage = stage
        self._display.retitle(f"{self._places[stage]} {stage}")
        self.doing(f"again: {why}" if why else "")

    def doing(self, what: str) -> None:
        """Below the lines."""
        from tunesmith.v1 import run_pb2

        self._display.run(run_pb2.Run(state=run_pb2.RUN_STATE_RUNNING, state_reason=what))

    def ended(self, end: StageEnd) -> None:
        """A line of the stage list."""
        how = "unchanged" if end.unchanged else f"{end.seconds:.1f} s"
        self._display.say(f"✓ {self._places[end.name]} {end.name:<10} {how:>9}  {end.said}")

    def epoch(self, summary: EpochSummary, epochs: int) -> None:
        """A line."""
        from trainer_node.engines.tinylm.telling import epoch_line

        self._display.say(f"  {epoch_line(summary, epochs)}")

    def sampled(self, sample: TextSample) -> None:
        """A line."""
        self._display.say(f"  “{sample.text}”")

    def say(self, text: str, *, loud: bool = False) -> None:
        """A line."""
        self._display.say(_note(text, loud))

    def event(self, event: JobEvent) -> None:
        """The bar, and at the end how it ended."""
        _show(event, self._display)
        if event.HasField("finished"):
            from tunesmith.v1 import run_pb2

            outcome = (event.finished.WhichOneof("outcome") or "failed").upper()
            self._display.run(run_pb2.Run(state=f"RUN_STATE_{outcome}"))


def _places(stages: Sequence[str]) -> dict[str, str]:
    return {name: f"{place}/{len(stages)}" for place, name in enumerate(stages, 1)}


def _note(text: str, loud: bool) -> str:
    return f"!!! {text[0].upper()}{text[1:]} !!!" if loud else text


def _show(event: JobEvent, display: LineDisplay | LiveDisplay) -> None:
    """Steps and rows; what an epoch has come to is told by its line."""
    if event.HasField("started"):
        started = event.started
        display.run(run_of(started))
        display.say(
            f"{started.training_samples:,} paragraphs to train on, {started.validation_samples:,} held out; "
            f"{started.trainable_parameters:,} numbers to train; {started.total_steps:,} steps"
        )
    elif event.HasField("metrics") and "loss" in event.metrics.names:
        display.metrics(event.metrics)
    elif event.HasField("checkpoint_saved"):
        display.say(f"checkpoint at step {event.checkpoint_saved.step}")
