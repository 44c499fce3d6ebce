"""The adapter that a training starts from: which of its settings are taken over, and what its node is told of it."""

from __future__ import annotations

from control_plane.adapters import store as adapters
from control_plane.adapters.model import Adapter
from control_plane.db.connection import Connection
from control_plane.errors import StartAdapterUnsuitable
from tunesmith import adapter_shape
from tunesmith import spec as specs
from tunesmith.errors import InvalidField
from tunesmith.v1 import job_event_pb2, job_spec_pb2, trainer_pb2


async def adopt(conn: Connection, spec: job_spec_pb2.JobSpec) -> job_spec_pb2.JobSpec:
    """`spec`, not resolved yet, with the base model and the shape of the matrices of the adapter that it starts from.

    As it is where it starts from none. Raises AdapterNotFound, StartAdapterUnsuitable, and InvalidField where another
    shape is given.
    """
    given = adapter_shape.settings_of(spec)
    if given is None or not given.start_adapter_id:
        return spec
    adapter = await adapters.get(conn, given.start_adapter_id)
    trained = adapter_shape.settings_of(adapter.training_config.spec)
    called = f"{adapter.name}@{adapter.version}"
    if trained is None or adapter_shape.unstated(trained):
        what = f"{called} does not say what it was trained with, so no training can start from it; choose another"
        raise StartAdapterUnsuitable(what, adapter_id=adapter.adapter_id)
    if given.base_model and given.base_model != trained.base_model:
        what = f"{called} was trained on {trained.base_model}, not on {given.base_model}"
        raise StartAdapterUnsuitable(
            f"{what}; leave base_model out or give that, or choose an adapter of {given.base_model}",
            adapter_id=adapter.adapter_id,
            base_model=trained.base_model,
        )
    if problems := adapter_shape.differences(given, trained, path=f"spec.{specs.kind_of(spec)}.adapter"):
        raise InvalidField.of(problems)
    adopted = job_spec_pb2.JobSpec()
    adopted.CopyFrom(spec)
    adapter_shape.take_over(getattr(adopted, specs.kind_of(spec)).adapter, trained)
    return adopted


def start_adapter_message(adapter: Adapter) -> trainer_pb2.StartAdapter:
    """An adapter as the node is told of it whose job starts from it."""
    config = adapter.training_config
    origin = job_event_pb2.AdapterOrigin(
        adapter_id=adapter.adapter_id,
        name=adapter.name,
        version=adapter.version,
        kind=specs.kind_of(config.spec),
        dataset_version_id=adapter.dataset_version_id or "",
    )
    return trainer_pb2.StartAdapter(
        files=adapter.files,
        base_model_fingerprint=config.base_model_fingerprint,
        lineage=[*config.lineage, origin],
    )
