"""What a person is told of a setting's default: `0.02; 10 with loss=ipo`, in help and reference alike."""

from __future__ import annotations

from typing import Any

from google.protobuf.descriptor import FieldDescriptor

from tunesmith import spec


def default_words(field: FieldDescriptor, *, kind: str = "") -> str:
    """The default of a setting, with those that hold under a condition; empty where it has none.

    kind: of training, whose own default is told then; without one, all are: `0.0002; 5e-05 for dpo and ranking`.
    """
    default = spec.default_of(field)
    otherwise: dict[str, list[str]] = {}
    for when, value in spec.conditional_defaults(field):
        if when == kind:
            default = value
        elif "=" in when or not kind:
            otherwise.setdefault(_shown(field, value), []).append(when)
    ordinary = [] if default is None else [_shown(field, default)]
    return "; ".join([*ordinary, *(f"{value} {_told(field, when)}" for value, when in otherwise.items())])


def _told(field: FieldDescriptor, conditions: list[str]) -> str:
    """`for dpo and ranking`, or `with loss=sigmoid_norm or loss=ipo`."""
    if "=" not in conditions[0]:
        return "for " + " and ".join(conditions)
    parts = (condition.partition("=") for condition in conditions)
    message = field.containing_type
    assert message is not None, "a setting stands in a message"
    return "with " + " or ".join(f"{name}={_shown(message.fields_by_name[name], value)}" for name, _, value in parts)


def _shown(field: FieldDescriptor, value: Any) -> str:
    if field.enum_type is not None:
        return spec.short_name(field, str(value))
    return str(value).lower() if isinstance(value, bool) else str(value)
