"""Models as messages."""

from __future__ import annotations

from control_plane.models.model import Model
from services.convert.times import timestamp
from tunesmith.v1 import model_pb2


def model_message(model: Model) -> model_pb2.Model:
    """The model as clients see it."""
    return model_pb2.Model(
        model_id=model.model_id,
        name=model.name,
        version=model.version,
        run_id=model.run_id,
        experiment_id=model.experiment_id,
        final_loss=model.final_loss,
        best_loss=model.best_loss,
        files=model.files,
        training_config=model.training_config,
        labels=model.labels,
        etag=model.etag,
        create_time=timestamp(model.create_time),
    )
