"""The adapter that a run names, as a person does: by id, prefix, `name@version` or name."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tunesmith.client.client import Client
    from tunesmith.v1.job_spec_pb2 import JobSpec


def settle_adapter(client: Client, spec: JobSpec, adapter: str = "") -> None:
    """Put the id where a name stands. adapter: whom a training starts from, or who plays in generate; otherwise the one
    that the spec names, if any.

    Raises ApiError ADAPTER_NOT_FOUND.
    """
    from tunesmith import spec as specs
    from tunesmith.client.names import resolve_adapter

    body = getattr(spec, specs.kind_of(spec), None)
    for group, setting in (("adapter", "start_adapter_id"), ("player", "adapter_id")):
        if body is None or group not in body.DESCRIPTOR.fields_by_name:
            continue
        if text := adapter or getattr(getattr(body, group), setting):
            setattr(getattr(body, group), setting, resolve_adapter(client, text))
