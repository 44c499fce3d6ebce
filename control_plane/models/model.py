"""What successful runs of tiny_lm leave: language models with their tokenizer."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from tunesmith.v1 import blob_pb2, job_event_pb2


@dataclass(frozen=True, kw_only=True)
class Model:
    """A row of `models`, without its report: a list of models would drag every curve along.

    final_loss, best_loss: in nats a token, as model.proto says.
    """

    model_id: str
    name: str
    version: int
    run_id: str
    experiment_id: str
    final_loss: float
    best_loss: float
    files: tuple[blob_pb2.File, ...]
    training_config: job_event_pb2.TrainingConfig
    labels: dict[str, str]
    revision: int
    create_time: datetime

    @property
    def etag(self) -> str:
        """Changes with every write."""
        return str(self.revision)
