"""What a pipeline tells while it works: stages, epochs, samples, and the events that every training has."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from tunesmith.v1 import job_event_pb2

if TYPE_CHECKING:
    from trainer_node.engines.tinylm.progress import EpochSummary


@dataclass(frozen=True)
class StageEnd:
    """A stage that is done. said: what came of it; seconds: that it took now; unchanged: it was done before."""

    name: str
    said: str
    seconds: float
    unchanged: bool


@dataclass(frozen=True)
class TextSample:
    """A text that the model wrote. epoch, step: of its training; text: the prompt and what the model added."""

    epoch: int
    step: int
    prompt: str
    text: str


def preview_of(sample: TextSample, *, place: int, seed: int) -> job_event_pb2.JobEvent:
    """A text as an event. place: of its prompt among all, from 0; seed: that it was drawn with."""
    preview = job_event_pb2.PreviewSaved(
        step=sample.step, prompt_index=place, prompt=sample.prompt, seed=seed, text=sample.text or sample.prompt
    )
    return job_event_pb2.JobEvent(preview_saved=preview)


class Listener(Protocol):
    """Who is told. Called in the pipeline's own thread; returns at once."""

    def planned(self, stages: Sequence[str]) -> None:
        """All stages, in their order."""

    def began(self, stage: str, why: str) -> None:
        """A stage is worked on. why: it is done again; empty for the first time."""

    def doing(self, what: str) -> None:
        """What is worked on inside the stage; may come often."""

    def ended(self, end: StageEnd) -> None:
        """A stage is done."""

    def epoch(self, summary: EpochSummary, epochs: int) -> None:
        """An epoch of the training is done, of so many."""

    def sampled(self, sample: TextSample) -> None:
        """A text was sampled; its event comes, too."""

    def say(self, text: str, *, loud: bool = False) -> None:
        """A sentence for people. loud: one that must not be overlooked."""

    def event(self, event: job_event_pb2.JobEvent) -> None:
        """JobStarted, MetricBatch, CheckpointSaved or PreviewSaved."""


class LineListener:
    """Tells by lines: what a job on a node prints, and what programs read beside its events."""

    def __init__(self, line: Callable[[str], None], event: Callable[[job_event_pb2.JobEvent], None]) -> None:
        self._line, self._event = line, event
        self._places: dict[str, str] = {}
        self.stage = ""  # that is worked on

    def planned(self, stages: Sequence[str]) -> None:
        """Numbers them."""
        self._places = {name: f"{place}/{len(stages)}" for place, name in enumerate(stages, 1)}

    def began(self, stage: str, why: str) -> None:
        """One line."""
        self.stage = stage
        self._line(f"stage {self._place(stage)} {stage}" + (f": again, since {why}" if why else ""))

    def doing(self, what: str) -> None:
        """Nothing: it comes too often."""

    def ended(self, end: StageEnd) -> None:
        """One line."""
        how = "unchanged" if end.unchanged else f"done in {end.seconds:.1f} s"
        self._line(f"stage {self._place(end.name)} {end.name} {how}: {end.said}")

    def epoch(self, summary: EpochSummary, epochs: int) -> None:
        """One line."""
        self._line(epoch_line(summary, epochs))

    def sampled(self, sample: TextSample) -> None:
        """One line."""
        self._line(f"sample after epoch {sample.epoch}: {sample.text}")

    def say(self, text: str, *, loud: bool = False) -> None:
        """One line."""
        self._line(f"NOTE: {text}" if loud else text)

    def event(self, event: job_event_pb2.JobEvent) -> None:
        """Handed on."""
        self._event(event)

    def _place(self, stage: str) -> str:
        return self._places.get(stage, "")


def epoch_line(summary: EpochSummary, epochs: int) -> str:
    """`epoch 3/20  train 5.1234  validation 5.2345  lr 0.00029  41,000 tokens/s  12.3 s`."""
    held = "" if summary.validation_loss is None else f"  validation {summary.validation_loss:.4f}"
    return (
        f"epoch {summary.epoch}/{epochs}  train {summary.train_loss:.4f}{held}  lr {summary.learning_rate:.3g}  "
        f"{summary.tokens_per_s:,.0f} tokens/s  {summary.seconds:.1f} s"
    )
