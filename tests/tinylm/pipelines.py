"""Whole pipelines that take a second or two, and what is heard of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from trainer_node import checkpoints
from trainer_node.engines.tinylm import pipeline
from trainer_node.engines.tinylm.plan import Plan
from trainer_node.engines.tinylm.progress import EpochSummary
from trainer_node.engines.tinylm.synthetic import write_synthetic
from trainer_node.engines.tinylm.telling import StageEnd, TextSample
from trainer_node.foreground import OutputFiles
from trainer_node.training import Outcome
from tunesmith import spec as specs
from tunesmith.v1 import job_event_pb2, job_spec_pb2, trainer_pb2

SETTINGS: dict[str, Any] = {
    "tokenizer": {"vocab_size": 400},
    "model": {"layers": 1, "d_model": 16, "heads": 2, "ffn": 32, "max_seq_length": 32},
    "training": {"epochs": 2, "batch_size": 16, "precision": "fp32", "learning_rate": 1e-2},
    "checkpoints": {"checkpoint_every_epochs": 1},
    "samples": {"sample_every_epochs": 1, "sample_tokens": 6, "sample_prompts": ["The", "El"]},
}
SIZE_BYTES = 40_000  # of the corpus


def text(folder: Path) -> Path:
    """A small corpus in both languages."""
    write_synthetic(folder, size_bytes=SIZE_BYTES)
    return folder


def spec(**changes: Any) -> job_spec_pb2.JobSpec:
    """SETTINGS, with whole groups or single settings of them replaced."""
    merged = {group: {**SETTINGS.get(group, {}), **changes.get(group, {})} for group in {**SETTINGS, **changes}}
    return specs.resolve(specs.parse({"tiny_lm": merged}, job_spec_pb2.JobSpec()))


@dataclass
class Heard:
    """A listener that notes everything down. on_step: called with each metric row's step."""

    ends: list[StageEnd] = field(default_factory=list)
    again: dict[str, str] = field(default_factory=dict)
    epochs: list[EpochSummary] = field(default_factory=list)
    samples: list[TextSample] = field(default_factory=list)
    said: list[str] = field(default_factory=list)
    loud: list[str] = field(default_factory=list)
    events: list[job_event_pb2.JobEvent] = field(default_factory=list)
    names: Sequence[str] = ()

    def planned(self, stages: Sequence[str]) -> None:
        self.names = stages

    def began(self, stage: str, why: str) -> None:
        self.again[stage] = why

    def doing(self, what: str) -> None:
        pass

    def ended(self, end: StageEnd) -> None:
        self.ends.append(end)

    def epoch(self, summary: EpochSummary, epochs: int) -> None:
        self.epochs.append(summary)

    def sampled(self, sample: TextSample) -> None:
        self.samples.append(sample)

    def say(self, text: str, *, loud: bool = False) -> None:
        (self.loud if loud else self.said).append(text)

    def event(self, event: job_event_pb2.JobEvent) -> None:
        self.events.append(event)

    @property
    def done(self) -> list[str]:
        """The stages that were worked on, the preflight aside."""
        return [end.name for end in self.ends if not end.unchanged and end.name != "preflight"]

    def of(self, kind: str) -> list[Any]:
        """The events of a kind, such as `started`."""
        return [getattr(event, kind) for event in self.events if event.HasField(kind)]


def run(
    output: Path,
    corpus: Path | None,
    *,
    heard: Heard | None = None,
    stop: Callable[[], bool] = lambda: False,
    resume: bool = False,
    may_fall_back: bool = False,
    **changes: Any,
) -> Outcome:
    """A pipeline into `output`; changes: of SETTINGS."""
    plan = Plan(
        job=trainer_pb2.Job(spec=spec(**changes), attempt=1),
        output_dir=output,
        cache_dir=output / "cache",
        corpus_paths=[corpus] if corpus else [],
        may_fall_back=may_fall_back,
        resume_dir=checkpoints.latest(output / "checkpoints") if resume else None,
        resumes=resume,
        threads=1,
        synthetic_bytes=SIZE_BYTES,
    )
    return pipeline.run(plan, heard or Heard(), OutputFiles(), stop)
