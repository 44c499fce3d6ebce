"""Experiments as messages."""

from __future__ import annotations

from control_plane.experiments.model import Experiment
from services.convert.times import timestamp
from tunesmith.v1 import experiment_pb2


def experiment_message(experiment: Experiment) -> experiment_pb2.Experiment:
    """The experiment as clients see it."""
    return experiment_pb2.Experiment(
        experiment_id=experiment.experiment_id,
        name=experiment.name,
        description=experiment.description,
        dataset_id=experiment.dataset_id or "",
        default_spec=experiment.default_spec,
        labels=experiment.labels,
        etag=experiment.etag,
        create_time=timestamp(experiment.create_time),
        update_time=timestamp(experiment.update_time),
    )


def experiment_changes(experiment: experiment_pb2.Experiment, paths: list[str]) -> dict[str, object]:
    """The new values of the fields in `paths`; what is unset clears a field."""
    values: dict[str, object] = {
        "description": experiment.description,
        "dataset_id": experiment.dataset_id or None,
        "default_spec": experiment.default_spec if experiment.HasField("default_spec") else None,
        "labels": dict(experiment.labels),
    }
    return {path: values[path] for path in paths}
