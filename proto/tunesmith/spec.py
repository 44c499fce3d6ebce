"""How a JobSpec is read, merged, filled and checked: the same for a file, a flag and a request.

A setting stands in the contract with its default and its range (job_spec.proto); nothing here knows a setting by name.
Precedence: run over experiment over the default written at the field.
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypeVar, cast

import protovalidate
import yaml
from google.protobuf import json_format
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message

from tunesmith.errors import FieldProblem, InvalidField
from tunesmith.v1 import annotations_pb2, job_spec_pb2

M = TypeVar("M", bound=Message)


def read_yaml(text: str, *, where: str) -> dict[str, Any]:
    """The mapping that a YAML (or JSON) text holds. Raises InvalidField naming `where` and the line."""
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f":{mark.line + 1}" if mark else ""
        raise InvalidField.of([FieldProblem(f"{where}{line}", f"not valid YAML: {error}")]) from error
    if not isinstance(value, dict):
        raise InvalidField.of([FieldProblem(where, "must be a mapping of settings; see docs/reference/settings.md")])
    return value


def parse(mapping: Mapping[str, Any], message: M, *, path: str = "") -> M:
    """Fill `message` from a mapping with the contract's field names; unknown keys are refused with a suggestion."""
    kind = cast(Descriptor, message.DESCRIPTOR)
    problems = list(_misfits(mapping, kind, kind, path))
    if problems:
        raise InvalidField.of(problems)
    try:
        return json_format.ParseDict(_plain(mapping, kind), message)
    except json_format.ParseError as error:
        raise InvalidField.of([FieldProblem(path or "file", str(error))]) from error


def _plain(value: Any, kind: Descriptor) -> Any:
    """As proto JSON wants it: keys as texts, and enum values whole where they are short, such as `bf16` for precision.

    YAML reads `2e-4` as a text, since it has no dot; a proto number takes it as it is.
    """
    if not isinstance(value, Mapping):
        return value
    plain: dict[str, Any] = {}
    for key, item in value.items():
        field = kind.fields_by_name[str(key)]
        if field.enum_type:
            item = _whole_name(str(item), [entry.name for entry in field.enum_type.values])
        elif field.message_type and not _is_map(field):
            item = _plain(item, field.message_type)
        plain[str(key)] = item
    return plain


def _whole_name(text: str, names: Sequence[str]) -> str | None:
    """`PRECISION_BF16` for it or for `bf16`; None where it is neither."""
    whole = (text, _prefix(names) + text.upper().replace("-", "_"))
    return next((name for name in names if name in whole), None)


def _prefix(names: Sequence[str]) -> str:
    """What the values of an enum begin with: `PRECISION_`."""
    return names[0].removesuffix("UNSPECIFIED")


def _misfits(mapping: Mapping[str, Any], kind: Descriptor, root: Descriptor, path: str) -> Iterator[FieldProblem]:
    """Keys that the contract does not have, and values that cannot be what their key wants."""
    for key, value in mapping.items():
        field = kind.fields_by_name.get(str(key))
        here = f"{path}.{key}" if path else str(key)
        if field is None:
            yield FieldProblem(here, _suggestion(str(key), kind, root))
        elif field.enum_type and _whole_name(str(value), [entry.name for entry in field.enum_type.values]) is None:
            yield FieldProblem(here, f"{value!r} is not one of {', '.join(choices(field))}")
        elif field.message_type and not _is_map(field):
            if isinstance(value, Mapping):
                yield from _misfits(value, field.message_type, root, here)
            else:
                known = ", ".join(field.message_type.fields_by_name)
                yield FieldProblem(here, f"must be a mapping of settings, such as {known}")


def choices(field: FieldDescriptor) -> list[str]:
    """The short names of an enum setting's values, such as `auto`, `fp32`, `bf16` for precision."""
    return [short_name(field, entry.name) for entry in cast(Any, field.enum_type).values[1:]]


def short_name(field: FieldDescriptor, name: str) -> str:
    """`bf16` for `PRECISION_BF16`, a value of the enum setting `field`."""
    return name.removeprefix(_prefix([entry.name for entry in cast(Any, field.enum_type).values])).lower()


def _suggestion(key: str, kind: Descriptor, root: Descriptor) -> str:
    """Where an unknown key belongs, or what it may have been meant to be."""
    homes = [path for path, field in settings(kind) if field.name == key] or [
        path for path, field in settings(root) if field.name == key
    ]
    if homes:
        return f"unknown here; it belongs under {homes[0].rpartition('.')[0] or 'the top level'}"
    near = difflib.get_close_matches(key.replace("-", "_"), list(kind.fields_by_name), n=1, cutoff=0.6)
    if not near:
        near = difflib.get_close_matches(key.replace("-", "_"), [f.name for _, f in settings(root)], n=1, cutoff=0.6)
    return f"unknown key; did you mean {near[0]}?" if near else f"unknown key; known: {', '.join(kind.fields_by_name)}"


def settings(kind: Descriptor, path: str = "") -> Iterator[tuple[str, FieldDescriptor]]:
    """Every leaf setting below a message type, as (dotted path, field)."""
    for field in kind.fields:
        here = f"{path}.{field.name}" if path else field.name
        if field.message_type and not _is_map(field):
            yield from settings(field.message_type, here)
        else:
            yield here, field


def default_of(field: FieldDescriptor) -> Any:
    """The default that the contract gives a field, as a JSON value; None where it has none."""
    # the stubs know extensions by a type that the generated code does not use
    text: str = field.GetOptions().Extensions[cast(Any, annotations_pb2.default_json)]
    return json.loads(text) if text else None


def kind_of(spec: job_spec_pb2.JobSpec) -> str:
    """The kind of training, such as `supervised`; empty where none is set."""
    return spec.WhichOneof("kind") or ""


def merge(defaults: job_spec_pb2.JobSpec, overrides: job_spec_pb2.JobSpec) -> job_spec_pb2.JobSpec:
    """`defaults` with every setting of `overrides` above it; lists are replaced, never appended.

    Another kind of training than the defaults' stands alone.
    """
    merged = job_spec_pb2.JobSpec()
    if kind_of(overrides) in ("", kind_of(defaults)):
        merged.CopyFrom(defaults)
    _overlay(merged, overrides)
    return merged


def _overlay(target: Message, source: Message) -> None:
    for field, value in source.ListFields():
        if field.message_type and not field.is_repeated:
            _overlay(getattr(target, field.name), value)
            getattr(target, field.name).SetInParent()
        else:
            target.ClearField(field.name)
            if field.is_repeated:
                getattr(target, field.name).extend(value)
            else:
                setattr(target, field.name, value)


def resolve(spec: job_spec_pb2.JobSpec) -> job_spec_pb2.JobSpec:
    """A copy with every open setting at its default. Raises InvalidField where something needed is missing."""
    resolved = job_spec_pb2.JobSpec()
    resolved.CopyFrom(spec)
    kind = kind_of(resolved)
    if not kind:
        raise InvalidField.of(
            [FieldProblem("spec", "no kind of training; give one of supervised, dpo, ranking, tiny_lm")]
        )
    _fill(getattr(resolved, kind))
    problems = check(resolved, path="spec")
    body = getattr(resolved, kind)
    if "adapter" in body.DESCRIPTOR.fields_by_name and not body.adapter.base_model:
        what = "missing; give a Hugging Face id such as facebook/musicgen-small or a folder of the models directory"
        problems.append(FieldProblem(f"spec.{kind}.adapter.base_model", what))
    if problems:
        raise InvalidField.of(problems)
    return resolved


def _fill(message: Message) -> None:
    for field in message.DESCRIPTOR.fields:
        if field.message_type and not field.is_repeated:
            getattr(message, field.name).SetInParent()
            _fill(getattr(message, field.name))
            continue
        default = default_of(cast(FieldDescriptor, field))
        given = message.HasField(field.name) if field.has_presence else bool(getattr(message, field.name))
        if default is not None and not given:
            json_format.ParseDict({field.name: default}, message)


def check(message: Message, *, path: str = "") -> list[FieldProblem]:
    """The fields of `message` that break the contract's rules, with value and range."""
    return [_problem(violation, path) for violation in protovalidate.collect_violations(message)]


def _problem(violation: protovalidate.Violation, prefix: str) -> FieldProblem:
    path = prefix
    for element in violation.proto.field.elements if violation.proto.field else ():
        path = f"{path}.{element.field_name}" if path else element.field_name
        subscript = element.subscript
        if subscript is not None:
            path += f"[{json.dumps(subscript.value)}]"
    value = getattr(violation, "field_value", None)
    shown = f" (given: {value!r:.80})" if isinstance(value, (int, float, str)) else ""
    return FieldProblem(path or "request", f"{violation.proto.message}{shown}")


def _is_map(field: FieldDescriptor) -> bool:
    return bool(field.message_type and field.message_type.GetOptions().map_entry)
