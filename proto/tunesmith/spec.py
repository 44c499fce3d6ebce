"""How a JobSpec is read, merged, filled and checked: the same for a file, a flag and a request.

A setting stands in the contract with its default and its range (job_spec.proto); nothing here knows a setting by name.
Precedence: run over experiment over the default written at the field.
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar, cast

import yaml
from google.protobuf import json_format, message_factory
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message

from tunesmith import training_type
from tunesmith.errors import FieldProblem, InvalidField
from tunesmith.v1 import annotations_pb2, job_spec_pb2

if TYPE_CHECKING:
    import protovalidate

M = TypeVar("M", bound=Message)

_WHOLE, _REAL = ("a whole number", "whole numbers"), ("a number", "numbers")
_VALUES = {
    **dict.fromkeys((FieldDescriptor.CPPTYPE_INT32, FieldDescriptor.CPPTYPE_INT64), _WHOLE),
    **dict.fromkeys((FieldDescriptor.CPPTYPE_UINT32, FieldDescriptor.CPPTYPE_UINT64), _WHOLE),
    **dict.fromkeys((FieldDescriptor.CPPTYPE_DOUBLE, FieldDescriptor.CPPTYPE_FLOAT), _REAL),
    FieldDescriptor.CPPTYPE_BOOL: ("true or false", "true or false"),
    FieldDescriptor.CPPTYPE_STRING: ("a text", "texts"),
}


class _Loader(yaml.SafeLoader):
    """Reads plain values only, and each key once."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """The mapping. Raises ConstructorError at a key that was there before."""
        seen: set[str] = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode) and key.value in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"{key.value} is given twice; leave one of them out", key.start_mark
                )
            seen.add(str(key.value))
        return super().construct_mapping(node, deep)


def read_yaml(text: str, *, where: str) -> dict[str, Any]:
    """The mapping that a YAML (or JSON) text holds. Raises InvalidField naming `where` and the line.

    A key that stands twice is refused, though YAML's own readers let the last one win.
    """
    try:
        value = _Loader(text).get_single_data()
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f":{mark.line + 1}" if mark else ""
        raise InvalidField.of([FieldProblem(f"{where}{line}", f"not valid YAML: {error}")]) from error
    if not isinstance(value, dict):
        raise InvalidField.of([FieldProblem(where, "must be a mapping of settings; see docs/reference/settings.md")])
    return value


def parse(mapping: Mapping[str, Any], message: M, *, path: str = "") -> M:
    """Fill `message` from a mapping with the contract's field names; unknown keys are refused with a suggestion.

    A JobSpec may also be flat: `training_type: ranking` with the settings beside it.
    """
    kind = cast(Descriptor, message.DESCRIPTOR)
    if isinstance(message, job_spec_pb2.JobSpec):
        mapping = training_type.below_its_kind(mapping)
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
        elif _is_group(field):
            item = _plain(item, cast(Descriptor, field.message_type))
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
        elif _is_group(field):
            if isinstance(value, Mapping):
                yield from _misfits(value, cast(Descriptor, field.message_type), root, here)
            else:
                known = ", ".join(cast(Descriptor, field.message_type).fields_by_name)
                yield FieldProblem(here, f"must be a mapping of settings, such as {known}")
        elif not field.enum_type and not _fits(value, field):
            yield FieldProblem(here, f"must be {_kind_of_value(field)} (given: {value!r})")


def _fits(value: Any, field: FieldDescriptor) -> bool:
    """Whether a value can be read as what a setting wants."""
    holder = message_factory.GetMessageClass(cast(Descriptor, field.containing_type))()
    try:
        json_format.ParseDict({field.name: value}, holder)
    except json_format.ParseError:
        return False
    return True


def _kind_of_value(field: FieldDescriptor) -> str:
    """What a setting wants, in words."""
    if field.message_type:
        return f"a list of mappings of {', '.join(field.message_type.fields_by_name)}, texts in quotes"
    one, many = _VALUES[field.cpp_type]
    return f"a list of {many}" if field.is_repeated else one


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
    known = [*kind.fields_by_name, *([training_type.KEY] if kind.name == "JobSpec" else [])]
    near = difflib.get_close_matches(key.replace("-", "_"), known, n=1, cutoff=0.6)
    if not near:
        near = difflib.get_close_matches(key.replace("-", "_"), [f.name for _, f in settings(root)], n=1, cutoff=0.6)
    return f"unknown key; did you mean {near[0]}?" if near else f"unknown key; known: {', '.join(known)}"


def settings(kind: Descriptor, path: str = "") -> Iterator[tuple[str, FieldDescriptor]]:
    """Every leaf setting below a message type, as (dotted path, field). Lists of messages are data, not settings."""
    for field in kind.fields:
        here = f"{path}.{field.name}" if path else field.name
        if _is_group(field):
            yield from settings(cast(Descriptor, field.message_type), here)
        elif not field.message_type or _is_map(field):
            yield here, field


def leaves(message: Message) -> Iterator[tuple[str, FieldDescriptor, Message]]:
    """Every leaf setting of a message, as (dotted path, field, the message that holds it)."""
    for path, field in settings(cast(Descriptor, message.DESCRIPTOR)):
        holder = message
        for group in path.split(".")[:-1]:
            holder = getattr(holder, group)
        yield path, field, holder


def in_force(message: Message) -> dict[str, Any]:
    """The value of every leaf setting of a message by its dotted path: enums by their short names, lists as lists.

    A setting that is open is left out: in a resolved spec, one that is for another case, such as another loss.
    """
    found: dict[str, Any] = {}
    for path, field, holder in leaves(message):
        if field.has_presence and not holder.HasField(field.name):
            continue
        value = getattr(holder, field.name)
        if field.enum_type:
            value = short_name(field, cast(Any, field.enum_type).values_by_number[value].name)
        found[path] = list(value) if field.is_repeated else value
    return found


def default_of(field: FieldDescriptor) -> Any:
    """The default that the contract gives a field, as a JSON value; None where it has none."""
    # the stubs know extensions by a type that the generated code does not use
    text: str = field.GetOptions().Extensions[cast(Any, annotations_pb2.default_json)]
    return json.loads(text) if text else None


def conditional_defaults(field: FieldDescriptor) -> list[tuple[str, Any]]:
    """Defaults that hold under a condition instead, as (condition, JSON value): (`dpo`, 5e-05), (`loss=…_IPO`, 10)."""
    given = field.GetOptions().Extensions[cast(Any, annotations_pb2.default_when)]
    return [(each.when, json.loads(each.json)) for each in given]


def kind_of(spec: job_spec_pb2.JobSpec) -> str:
    """The kind of job, such as `supervised`; empty where none is set."""
    return spec.WhichOneof("kind") or ""


def merge(defaults: job_spec_pb2.JobSpec, overrides: job_spec_pb2.JobSpec) -> job_spec_pb2.JobSpec:
    """`defaults` with every setting of `overrides` above it; lists are replaced, never appended.

    Another kind of training than the defaults' stands alone. Where `overrides` choose another case, such as another
    loss, the defaults' settings for the former case are left behind.
    """
    merged = job_spec_pb2.JobSpec()
    kind = kind_of(defaults)
    if kind_of(overrides) in ("", kind):
        merged.CopyFrom(defaults)
    _overlay(merged, overrides)
    if kind and kind_of(overrides) == kind:
        _leave_behind(getattr(merged, kind), getattr(defaults, kind), getattr(overrides, kind), kind)
    return merged


def _leave_behind(merged: Message, defaults: Message, overrides: Message, kind: str) -> None:
    given = {field.name for field, _ in overrides.ListFields()}
    for field, _ in defaults.ListFields():
        if field.name not in given and _applies(defaults, field, kind) and not _applies(merged, field, kind):
            merged.ClearField(field.name)


def _applies(message: Message, field: FieldDescriptor, kind: str) -> bool:
    """Whether a setting is for the case that its neighbours choose; those left open are at their defaults."""
    if default_of(field) is not None or not conditional_defaults(field):
        return True
    filled = type(message)()
    filled.CopyFrom(message)
    fill(filled, kind=kind)
    return _default_in(filled, field, kind) is not None


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
            [FieldProblem("spec", "no kind of training; give one of supervised, dpo, ranking, tiny_lm, generate")]
        )
    fill(getattr(resolved, kind), kind=kind)
    if problems := [*check(resolved, path="spec"), *_missing(getattr(resolved, kind), path=f"spec.{kind}")]:
        raise InvalidField.of(problems)
    return resolved


def _missing(body: Message, *, path: str) -> Iterator[FieldProblem]:
    """What a kind needs and no default stands for."""
    model = "missing; give a Hugging Face id such as facebook/musicgen-small or a folder of the models directory"
    match body:
        case job_spec_pb2.GenerateSpec():
            if not (body.player.base_model or body.player.adapter_id):
                yield FieldProblem(f"{path}.player.base_model", f"{model}, or adapter_id, which knows its own")
            if not body.generation.prompts:
                yield FieldProblem(f"{path}.generation.prompts", "missing; give 1 to 1,000 texts to play clips for")
        case job_spec_pb2.SupervisedSpec() | job_spec_pb2.DpoSpec() | job_spec_pb2.RankingSpec():
            if not body.adapter.base_model:
                yield FieldProblem(f"{path}.adapter.base_model", model)


def fill(message: Message, *, kind: str = "") -> None:
    """Put the contract's default where nothing was given. kind: of training, which some defaults depend on.

    A default that depends on another setting looks at one that stands before it in the contract.
    """
    for field in cast(Sequence[FieldDescriptor], message.DESCRIPTOR.fields):
        if field.message_type and not field.is_repeated:
            getattr(message, field.name).SetInParent()
            fill(getattr(message, field.name), kind=kind)
            continue
        given = message.HasField(field.name) if field.has_presence else bool(getattr(message, field.name))
        default = _default_in(message, field, kind)
        if default is not None and not given:
            json_format.ParseDict({field.name: default}, message)


def _default_in(message: Message, field: FieldDescriptor, kind: str) -> Any:
    values = json_format.MessageToDict(message, preserving_proto_field_name=True)
    holding = {kind, *(f"{name}={value}" for name, value in values.items())}
    return next((value for when, value in conditional_defaults(field) if when in holding), default_of(field))


def check(message: Message, *, path: str = "") -> list[FieldProblem]:
    """The fields of `message` that break the contract's rules, with value and range."""
    import protovalidate  # with CEL, too heavy for a help text

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


def _is_group(field: FieldDescriptor) -> bool:
    """Whether a field holds settings of its own."""
    return bool(field.message_type) and not field.is_repeated


def _is_map(field: FieldDescriptor) -> bool:
    return bool(field.message_type and field.message_type.GetOptions().map_entry)
