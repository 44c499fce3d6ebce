"""What successful runs leave: adapters in PEFT's folder layout, and the report of the training."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from tunesmith.v1 import blob_pb2, job_event_pb2


@dataclass(frozen=True, kw_only=True)
class Adapter:
    """A row of `adapters`, without its report: a list of adapters would drag every curve along."""

    adapter_id: str
    name: str
    version: int
    run_id: str
    experiment_id: str
    dataset_version_id: str | None
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
class Report:
    """The report of the run that made an adapter. markdown: the same for people."""

    report: job_event_pb2.TrainingReport
    markdown: str
