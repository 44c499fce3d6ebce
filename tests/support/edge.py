"""A server of the edge around servicers that a test writes, and what it answers."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import grpc
from google.protobuf.message import Message
from google.rpc import error_details_pb2, status_pb2

from services.rpc.errors import DETAILS_KEY, Translate
from services.rpc.server import ServerOptions, build_server, serving


@asynccontextmanager
async def edge(
    servicers: Sequence[object], *, translate: Translate = lambda error: None
) -> AsyncIterator[grpc.aio.Channel]:
    """A channel to a server of `servicers` on a free port."""
    server = build_server(servicers, listen="127.0.0.1:0", options=ServerOptions(grace_s=0.2), translate=translate)
    async with serving(server) as address, grpc.aio.insecure_channel(address) as channel:
        yield channel


class Refusal:
    """What a failed call said: code, text and details."""

    def __init__(self, error: grpc.aio.AioRpcError) -> None:
        self.code = error.code()
        self.text = error.details() or ""
        self.trailing = dict(error.trailing_metadata() or ())
        self.status = status_pb2.Status()
        self.status.ParseFromString(self.trailing.get(DETAILS_KEY, b""))

    def __repr__(self) -> str:
        return f"<{self.code.name} {self.text!r}>"

    @property
    def info(self) -> error_details_pb2.ErrorInfo:
        """The one ErrorInfo that every refusal carries."""
        (info,) = self._details(error_details_pb2.ErrorInfo)
        assert isinstance(info, error_details_pb2.ErrorInfo)
        return info

    @property
    def reason(self) -> str:
        """Its reason."""
        return self.info.reason

    @property
    def fields(self) -> dict[str, str]:
        """What is wrong, by field path."""
        found = self._details(error_details_pb2.BadRequest)
        return {entry.field: entry.description for bad in found for entry in bad.field_violations}

    @property
    def retry_s(self) -> float | None:
        """When to try again, where it says so."""
        found = self._details(error_details_pb2.RetryInfo)
        return found[0].retry_delay.ToTimedelta().total_seconds() if found else None

    def _details(self, kind: type[Message]) -> list:
        found = []
        for packed in self.status.details:
            if packed.Is(kind.DESCRIPTOR):
                message = kind()
                packed.Unpack(message)
                found.append(message)
        return found


async def refusal(call) -> Refusal:
    """How `call` (unary, or a stream that is read) is refused; fails where it is not."""
    try:
        if hasattr(call, "__aiter__"):
            messages = [message async for message in call]
            raise AssertionError(f"was answered: {messages}")
        raise AssertionError(f"was answered: {await call}")
    except grpc.aio.AioRpcError as error:
        return Refusal(error)
