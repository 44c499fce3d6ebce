"""Every method of the contract, read from its descriptors: a method added tomorrow is tested tomorrow."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import grpc
from google.protobuf import message_factory
from google.protobuf.descriptor import Descriptor, FieldDescriptor, MethodDescriptor
from google.protobuf.message import Message

from tests.contract.descriptors import NODES_OWN, SERVICES


@dataclass(frozen=True)
class Method:
    """An RPC of the control plane."""

    descriptor: MethodDescriptor

    @property
    def name(self) -> str:
        """`RunService/GetRun`."""
        return f"{self.descriptor.containing_service.name}/{self.descriptor.name}"

    @property
    def request_type(self) -> type[Message]:
        """What it takes."""
        return message_factory.GetMessageClass(self.descriptor.input_type)

    def call(self, channel: grpc.aio.Channel, data: bytes):
        """Call it with `data` as its (first) request; the answer stays bytes."""
        path = f"/tunesmith.v1.{self.name}"
        streams = (self.descriptor.client_streaming, self.descriptor.server_streaming)
        shape = "_".join("stream" if streaming else "unary" for streaming in streams)
        return getattr(channel, shape)(path)(iter([data]) if streams[0] else data, timeout=20)


METHODS = [Method(method) for service in SERVICES if service.name != NODES_OWN for method in service.methods]


def texts(kind: Descriptor, path: tuple[FieldDescriptor, ...] = ()) -> Iterator[tuple[FieldDescriptor, ...]]:
    """The way to every text field below a message type, as the fields to go through."""
    for field in kind.fields:
        if field in path:
            continue
        if field.type == FieldDescriptor.TYPE_STRING:
            yield (*path, field)
        elif field.message_type is not None:
            yield from texts(field.message_type, (*path, field))


def put(message: Message, path: tuple[FieldDescriptor, ...], text: str) -> None:
    """Set the text field at the end of `path`, making what lies between."""
    field, *rest = path
    is_map = bool(field.message_type and field.message_type.GetOptions().map_entry)
    value = getattr(message, field.name)
    if is_map and field.message_type.fields_by_name["value"].message_type is None:
        key, item = (text, "x") if rest[0].name == "key" else ("x", text)
        value[key] = item
    elif not rest and field.is_repeated:
        value.append(text)
    elif not rest:
        setattr(message, field.name, text)
    else:
        put(value.add() if field.is_repeated else value, tuple(rest), text)
