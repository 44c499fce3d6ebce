"""Adapters and their evaluations as messages."""

from __future__ import annotations

from control_plane.adapters.model import Adapter, Evaluation, NewEvaluation
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


def new_evaluation(given: adapter_pb2.AdapterEvaluation) -> NewEvaluation:
    """What a client gives of an evaluation, without what the server sets."""
    return NewEvaluation(
        adapter_id=given.adapter_id,
        scorer=given.scorer,
        wish=dict(given.wish),
        before_run_id=given.before_run_id or None,
        after_run_id=given.after_run_id or None,
        measures=tuple(given.measures),
    )


def evaluation_message(evaluation: Evaluation) -> adapter_pb2.AdapterEvaluation:
    """The evaluation as clients see it."""
    return adapter_pb2.AdapterEvaluation(
        evaluation_id=evaluation.evaluation_id,
        adapter_id=evaluation.adapter_id,
        scorer=evaluation.scorer,
        wish=evaluation.wish,
        before_run_id=evaluation.before_run_id or "",
        after_run_id=evaluation.after_run_id or "",
        measures=evaluation.measures,
        create_time=timestamp(evaluation.create_time),
    )
