"""A server of the edge around servicers that a test writes, and what it answers."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any, TypeVar

import grpc
from google.protobuf.message import Message
from google.rpc import error_details_pb2, status_pb2

from services.rpc.errors import DETAILS_KEY, Translate
from services.rpc.server import ServerOptions, build_server, serving

M = TypeVar("M", bound=Message)


@asynccontextmanager
async def edge(
    servicers: Sequence[object], *, translate: Translate = lambda error: None
) -> AsyncIterator[grpc.aio.Channel]:
    """A channel to a server of `servicers` on a free port."""
    server = build_server(servicers, listen="127.0.0.1:0", options=ServerOptions(grace_s=0.2), translate=translate)
    async with serving(server) as address, grpc.aio.insecure_channel(address) as channel:
        yield channel


class Details:
    """A google.rpc.Status, taken apart."""

    def __init__(self, serialised: bytes) -> None:
        self.status = status_pb2.Status.FromString(serialised)

    @property
    def info(self) -> error_details_pb2.ErrorInfo:
        """The one ErrorInfo that every refusal carries."""
        (info,) = self._of(error_details_pb2.ErrorInfo)
        return info

    @property
    def fields(self) -> dict[str, str]:
        """What is wrong, by field path."""
        found = self._of(error_details_pb2.BadRequest)
        return {entry.field: entry.description for bad in found for entry in bad.field_violations}

    @property
    def retry_s(self) -> float | None:
        """When to try again, where it says so."""
        found = self._of(error_details_pb2.RetryInfo)
        return found[0].retry_delay.ToTimedelta().total_seconds() if found else None

    def _of(self, kind: type[M]) -> list[M]:
        return [kind.FromString(packed.value) for packed in self.status.details if packed.Is(kind.DESCRIPTOR)]


def details_of(serialised: bytes) -> Details:
    """The parts of a serialised google.rpc.Status."""
    return Details(serialised)


class Refusal(Details):
    """What a failed call said: code, text and details."""

    def __init__(self, error: grpc.aio.AioRpcError) -> None:
        self.code = error.code()
        self.text = error.details() or ""
        self.trailing = dict(error.trailing_metadata() or ())
        super().__init__(self.trailing.get(DETAILS_KEY, b""))

    def __repr__(self) -> str:
        return f"<{self.code.name} {self.text!r}>"

    @property
    def reason(self) -> str:
        """The reason of its ErrorInfo."""
        return self.info.reason


async def refusal(call: Any) -> Refusal:
    """How `call` (unary, or a stream that is read) is refused; fails where it is not."""
    try:
        answers = [message async for message in call] if hasattr(call, "__aiter__") else await call
    except grpc.aio.AioRpcError as error:
        return Refusal(error)
    raise AssertionError(f"was answered: {answers}")
