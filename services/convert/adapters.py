"""Adapters as messages."""

from __future__ import annotations

from control_plane.adapters.model import Adapter
from services.convert.times import timestamp
from tunesmith.v1 import adapter_pb2


def adapter_message(adapter: Adapter) -> adapter_pb2.Adapter:
    """The adapter as clients see it."""
    return adapter_pb2.Adapter(
        adapter_id=adapter.adapter_id,
        name=adapter.name,
        version=adapter.version,
        run_id=adapter.run_id,
        experiment_id=adapter.experiment_id,
        dataset_version_id=adapter.dataset_version_id or "",
        base_model=adapter.base_model,
        final_loss=adapter.final_loss,
        files=adapter.files,
        training_config=adapter.training_config,
        labels=adapter.labels,
        etag=adapter.etag,
        create_time=timestamp(adapter.create_time),
        start_adapter_id=adapter.start_adapter_id or "",
    )
