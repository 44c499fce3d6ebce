"""What successful runs of MusicGen leave, adapters in PEFT's folder layout, and what was measured of their clips."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from tunesmith.v1 import adapter_pb2, blob_pb2, job_event_pb2


@dataclass(frozen=True, kw_only=True)
class Adapter:
    """A row of `adapters`, without its report: a list of adapters would drag every curve along.

    start_adapter_id: the one that it was trained from; None for fresh matrices.
    """

    adapter_id: str
    name: str
    version: int
    run_id: str
    experiment_id: str
    dataset_version_id: str | None
    start_adapter_id: str | None
    base_model: str
    final_loss: float
    files: tuple[blob_pb2.File, ...]
    training_config: job_event_pb2.TrainingConfig
    labels: dict[str, str]
    revision: int
    create_time: datetime

    @property
    def etag(self) -> str:
        """Changes with every write."""
        return str(self.revision)


@dataclass(frozen=True, kw_only=True)
class NewEvaluation:
    """What is to be stored of an evaluation; adapter.proto says what each field means.

    before_run_id, after_run_id: None where it was no run of this control plane.
    """

    adapter_id: str
    scorer: str
    wish: dict[str, str]
    before_run_id: str | None
    after_run_id: str | None
    measures: tuple[adapter_pb2.Measure, ...]


@dataclass(frozen=True, kw_only=True)
class Evaluation(NewEvaluation):
    """A row of `adapter_evaluations`."""

    evaluation_id: str
    create_time: datetime
