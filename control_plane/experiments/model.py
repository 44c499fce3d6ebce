"""An experiment: a question, the data it is asked of, and the settings that its runs start from."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from tunesmith.v1 import job_spec_pb2


@dataclass(frozen=True, kw_only=True)
class Experiment:
    """A row of `experiments`. default_spec: as given, not resolved; its runs stand above it."""

    experiment_id: str
    name: str
    description: str
    dataset_id: str | None
    default_spec: job_spec_pb2.JobSpec | None
    labels: dict[str, str]
    revision: int
    create_time: datetime
    update_time: datetime

    @property
    def etag(self) -> str:
        """Changes with every write."""
        return str(self.revision)
