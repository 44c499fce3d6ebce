"""What successful runs of MusicGen leave: adapters in PEFT's folder layout."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from tunesmith.v1 import blob_pb2, job_event_pb2


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
