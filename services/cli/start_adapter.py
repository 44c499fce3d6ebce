"""The adapter that a training starts from, as a person names it: by id, prefix, `name@version` or name."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tunesmith.errors import FieldProblem, InvalidField

if TYPE_CHECKING:
    from tunesmith.client.client import Client
    from tunesmith.v1.job_spec_pb2 import JobSpec


def settle_start_adapter(client: Client, spec: JobSpec, adapter: str = "") -> None:
    """Put the id where a name stands. adapter: the one to start from; otherwise the one that the spec names, if any.

    Raises ApiError ADAPTER_NOT_FOUND, and InvalidField for a kind of training that takes none.
    """
    from tunesmith import spec as specs
    from tunesmith.client.names import resolve_adapter

    kind = specs.kind_of(spec)
    takes_one = bool(kind) and "adapter" in getattr(spec, kind).DESCRIPTOR.fields_by_name
    if adapter and not takes_one:
        raise InvalidField.of([FieldProblem("start_adapter", f"{kind or 'this training'} starts from no adapter")])
    if takes_one and (text := adapter or getattr(spec, kind).adapter.start_adapter_id):
        getattr(spec, kind).adapter.start_adapter_id = resolve_adapter(client, text)
