"""Reading requests: size, decoding and the rules of the contract, before any servicer sees a message."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import DecodeError, Message

from services.rpc.errors import MalformedRequest, RequestTooLarge
from tunesmith import spec
from tunesmith.errors import FieldProblem, InvalidField

MAX_MESSAGE_BYTES = 4 * 1024 * 1024

Decode = Callable[[bytes], Message]


def read(data: bytes, decode: Decode, *, name: str) -> Message:
    """The message in `data`, valid by the contract. name: its type, for the error.

    Raises RequestTooLarge, MalformedRequest or InvalidField.
    """
    message = _decode(data, decode, name)
    problems = [*_nuls(message, ""), *_relevant(spec.check(message), message)]
    if problems:
        raise InvalidField.of(problems)
    return message


async def read_stream(items: AsyncIterator[bytes], decode: Decode, *, name: str) -> AsyncIterator[Message]:
    """The messages of a client's stream. The first one names what follows and is checked; the rest are bulk data,
    which their servicer checks by hand."""
    first = True
    async for data in items:
        yield read(data, decode, name=name) if first else _decode(data, decode, name)
        first = False


def _decode(data: bytes, decode: Decode, name: str) -> Message:
    if len(data) > MAX_MESSAGE_BYTES:
        what = f"the request has {len(data)} bytes, at most {MAX_MESSAGE_BYTES} are allowed; send less at a time"
        raise RequestTooLarge(what, limit_bytes=MAX_MESSAGE_BYTES)
    try:
        return decode(data)
    except DecodeError as error:
        raise MalformedRequest(f"the request is not a valid {name}; build it from the .proto files") from error


def _relevant(problems: list[FieldProblem], message: Message) -> list[FieldProblem]:
    """Without those of an update's fields that its mask leaves as they are: a caller need not fill them."""
    masks = [value for field, value in message.ListFields() if field.name == "update_mask"]
    if not masks:
        return problems
    named = set(masks[0].paths)
    resources = [field.name for field in message.DESCRIPTOR.fields if field.name != "update_mask"]
    return [problem for problem in problems if _stands(problem.path, resources, named)]


def _stands(path: str, resources: list[str], named: set[str]) -> bool:
    resource, _, inner = path.partition(".")
    return resource not in resources or not inner or inner.partition(".")[0].partition("[")[0] in named


def _nuls(message: Message, path: str) -> Iterator[FieldProblem]:
    """Texts with a NUL, which Postgres cannot store; fields without a pattern of their own would let it through."""
    for field, value in message.ListFields():
        here = f"{path}.{field.name}" if path else field.name
        if _is_map(field):
            for key, item in value.items():
                yield from _nuls_of(key, f"{here}[{key!r}]")
                yield from _nuls_of(item, f"{here}[{key!r}]")
        elif field.is_repeated and field.type in (FieldDescriptor.TYPE_STRING, FieldDescriptor.TYPE_MESSAGE):
            for index, item in enumerate(value):
                yield from _nuls_of(item, f"{here}[{index}]")
        else:
            yield from _nuls_of(value, here)


def _nuls_of(value: Any, path: str) -> Iterator[FieldProblem]:
    if isinstance(value, Message):
        yield from _nuls(value, path)
    elif isinstance(value, str) and "\0" in value:
        yield FieldProblem(path.replace("\0", "\\0"), "holds a NUL character; remove it")


def _is_map(field: FieldDescriptor) -> bool:
    return bool(field.message_type and field.message_type.GetOptions().map_entry)
