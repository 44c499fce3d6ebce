"""The adapter that a training starts from, or that plays in generate: what is taken over, what its node is told."""

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

    As it is where it starts from none. Of an adapter that plays only the base model is taken over. Raises
    AdapterNotFound, StartAdapterUnsuitable, and InvalidField where another shape is given.
    """
    if spec.generate.player.adapter_id:
        return await _adopt_player(conn, spec)
    given = adapter_shape.settings_of(spec)
    if given is None or not given.start_adapter_id:
        return spec
    adapter = await adapters.get(conn, given.start_adapter_id)
    trained = adapter_shape.settings_of(adapter.training_config.spec)
    if trained is None or adapter_shape.unstated(trained):
        what = f"{_called(adapter)} does not say what it was trained with, so no training can start from it"
        raise StartAdapterUnsuitable(f"{what}; choose another", adapter_id=adapter.adapter_id)
    _require_base(adapter, trained.base_model, given.base_model)
    if problems := adapter_shape.differences(given, trained, path=f"spec.{specs.kind_of(spec)}.adapter"):
        raise InvalidField.of(problems)
    adopted = job_spec_pb2.JobSpec()
    adopted.CopyFrom(spec)
    adapter_shape.take_over(getattr(adopted, specs.kind_of(spec)).adapter, trained)
    return adopted


async def _adopt_player(conn: Connection, spec: job_spec_pb2.JobSpec) -> job_spec_pb2.JobSpec:
    adapter = await adapters.get(conn, spec.generate.player.adapter_id)
    _require_base(adapter, adapter.base_model, spec.generate.player.base_model)
    adopted = job_spec_pb2.JobSpec()
    adopted.CopyFrom(spec)
    adopted.generate.player.base_model = adapter.base_model
    return adopted


def _require_base(adapter: Adapter, trained_on: str, given: str) -> None:
    """Raise StartAdapterUnsuitable where another base model is given than the adapter's."""
    if given and given != trained_on:
        raise StartAdapterUnsuitable(
            f"{_called(adapter)} was trained on {trained_on}, not on {given}; leave base_model out or give that, or "
            f"choose an adapter of {given}",
            adapter_id=adapter.adapter_id,
            base_model=trained_on,
        )


def _called(adapter: Adapter) -> str:
    return f"{adapter.name}@{adapter.version}"


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
