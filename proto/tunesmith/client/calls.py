"""What every call of a client gets: a deadline, a request id on creates, and errors as ApiError."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import grpc
from google.protobuf.message import Message

from tunesmith.client.errors import from_rpc_error


class _Details(NamedTuple):
    method: str
    timeout: float | None
    metadata: Any
    credentials: Any
    wait_for_ready: bool | None
    compression: Any


class CallPolicy(
    grpc.UnaryUnaryClientInterceptor, grpc.UnaryStreamClientInterceptor, grpc.StreamUnaryClientInterceptor
):
    """The interceptor of a Client.

    A unary call gets `call_timeout_s`; with `total_timeout_s`, no call of the client outlives that many seconds from
    now on, streams included (DEADLINE_EXCEEDED). A create without a request id gets one, so that gRPC may repeat it.
    """

    def __init__(self, address: str, *, call_timeout_s: float, total_timeout_s: float | None) -> None:
        self._address = address
        self._call_timeout_s = call_timeout_s
        self._until = None if total_timeout_s is None else time.monotonic() + total_timeout_s

    def remaining_s(self) -> float | None:
        """Seconds left for the whole client; None where there is no such limit."""
        return None if self._until is None else max(0.001, self._until - time.monotonic())

    def intercept_unary_unary(self, continuation: Callable[..., Any], details: Any, request: Any) -> Any:
        """One request, one answer."""
        timeout = details.timeout if details.timeout is not None else self._call_timeout_s
        call = continuation(self._limited(details, timeout), with_request_id(request))
        return self._checked(call)

    def intercept_stream_unary(self, continuation: Callable[..., Any], details: Any, requests: Any) -> Any:
        """An upload, which takes as long as it takes."""
        return self._checked(continuation(self._limited(details, details.timeout), requests))

    def intercept_unary_stream(self, continuation: Callable[..., Any], details: Any, request: Any) -> Any:
        """A download or a watch, which last as long as they last."""
        call = continuation(self._limited(details, details.timeout), request)
        return _Stream(call, self._address)

    def _limited(self, details: Any, timeout: float | None) -> _Details:
        limits = [limit for limit in (timeout, self.remaining_s()) if limit is not None]
        return _Details(
            details.method,
            min(limits, default=None),
            details.metadata,
            details.credentials,
            details.wait_for_ready,
            details.compression,
        )

    def _checked(self, call: Any) -> Any:
        error = call.exception()
        if isinstance(error, grpc.RpcError):
            raise from_rpc_error(error, self._address) from None
        return call


class _Stream(Iterator[Any]):
    """A response stream whose errors are ApiErrors. Everything else is the call's own."""

    def __init__(self, call: Any, address: str) -> None:
        self._call = call
        self._address = address

    def __next__(self) -> Any:
        try:
            return next(self._call)
        except grpc.RpcError as error:
            raise from_rpc_error(error, self._address) from None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._call, name)


def with_request_id(request: Message) -> Message:
    """`request`, or a copy with a new request id where it has that field and it is open."""
    field = request.DESCRIPTOR.fields_by_name.get("request_id")
    if field is None or request.HasField("request_id"):
        return request
    copy = type(request)()
    copy.CopyFrom(request)
    setattr(copy, "request_id", uuid.uuid4().hex)  # noqa: B010  # the field is known by name only
    return copy
