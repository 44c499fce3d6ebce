"""What an adapter's matrices fix: the base model, their rank, scale and layers. A training from it takes these over."""

from __future__ import annotations

from typing import Any, cast

from google.protobuf.descriptor import FieldDescriptor

from tunesmith import spec as specs
from tunesmith.errors import FieldProblem
from tunesmith.v1 import job_spec_pb2

_SHAPE = ("lora_r", "lora_alpha", "lora_targets")


def settings_of(spec: job_spec_pb2.JobSpec) -> job_spec_pb2.AdapterSettings | None:
    """The settings of the adapter that a spec trains; None for a kind that trains none."""
    body = getattr(spec, specs.kind_of(spec), None)
    return getattr(body, "adapter", None)


def unstated(trained: job_spec_pb2.AdapterSettings) -> list[str]:
    """What has to be known of an adapter to go on from it, and is not."""
    stated = _stated(trained)
    return [name for name in ("base_model", *_SHAPE) if name not in stated]


def differences(
    given: job_spec_pb2.AdapterSettings, trained: job_spec_pb2.AdapterSettings, *, path: str
) -> list[FieldProblem]:
    """Settings that were given and cannot be: the matrices have another shape. path: of the given settings."""
    problems = []
    for name in _SHAPE:
        if name in _stated(given) and getattr(given, name) != getattr(trained, name):
            its, ours = _shown(trained, name), _shown(given, name)
            what = f"the adapter was trained with {name} {its} (given: {ours}); leave it out, or give {its}"
            problems.append(FieldProblem(f"{path}.{name}", what))
    return problems


def take_over(settings: job_spec_pb2.AdapterSettings, trained: job_spec_pb2.AdapterSettings) -> None:
    """Set in `settings` what the adapter fixes; a base model that is given stays, as another name of the same."""
    settings.base_model = settings.base_model or trained.base_model
    for name in _SHAPE:
        setattr(settings, name, getattr(trained, name))


def _stated(settings: job_spec_pb2.AdapterSettings) -> set[str]:
    return {field.name for field, _ in settings.ListFields()}


def _shown(settings: job_spec_pb2.AdapterSettings, name: str) -> str:
    field = cast(FieldDescriptor, settings.DESCRIPTOR.fields_by_name[name])
    value = getattr(settings, name)
    if field.enum_type is None:
        return f"{value:g}"
    return specs.short_name(field, cast(Any, field.enum_type).values_by_number[value].name)
