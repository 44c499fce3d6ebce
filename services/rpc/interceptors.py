"""What every call goes through, in this order: request id, log, errors, deadline, reading, and only then the servicer.

Each concern is an async context manager around a `Call`; `Edge` puts them around all four shapes of a method, so that
a stream is never less guarded than a unary call. Requests arrive as bytes and are decoded here, because grpc answers
bytes that it cannot decode with UNKNOWN and a text of Python's.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing, asynccontextmanager
from typing import Any

import grpc
import structlog

from services.rpc.calls import REQUEST_ID_KEY, Call, Context
from services.rpc.drain import Drain
from services.rpc.errors import (
    DETAILS_KEY,
    DeadlineExceeded,
    Translate,
    UnknownMethod,
    answer,
    expected,
)
from services.rpc.reading import read, read_stream
from tunesmith.errors import TunesmithError

OWN_METHODS = "/tunesmith.v1."
UNARY_CAP_S = 30.0  # no unary call holds a database connection for longer, whatever its caller allows
UNARY_DEFAULT_S = 10.0  # where the caller sets no deadline

LONG_S = {OWN_METHODS + "DatasetService/AddSamples": 600.0}  # decodes up to 1,000 clips, with no connection held

# Said every few seconds by every node: worth a line only where it goes wrong.
PERIODIC = frozenset({OWN_METHODS + "NodeService/RegisterNode", OWN_METHODS + "TrainerService/GetJobs"})

log = structlog.get_logger()

Handler = Any  # grpc.RpcMethodHandler; grpc types it by request and response, which an interceptor does not know


class Edge(grpc.aio.ServerInterceptor):
    """Guards every method of this project; standard services (health, reflection, channelz) pass untouched."""

    def __init__(self, *, drain: Drain, translate: Translate) -> None:
        self._drain = drain
        self._translate = translate
        self._wrapped: dict[str, Handler] = {}

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Handler]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Handler:
        """The method's handler within its guards, or one that says that there is no such method."""
        method = handler_call_details.method
        if method in self._wrapped:
            return self._wrapped[method]
        handler = await continuation(handler_call_details)
        if handler is None or (method.startswith(OWN_METHODS) and _is_absent(handler)):
            # a stream of streams answers callers of every shape
            return grpc.stream_stream_rpc_method_handler(self._unknown(method))
        if not method.startswith(OWN_METHODS):
            return handler
        self._wrapped[method] = _rebuilt(handler, self._behaviour(method, handler))
        return self._wrapped[method]

    def _behaviour(self, method: str, handler: Handler) -> Callable[[Any, Context], Any]:
        """`handler`'s function, given bytes, within the guards."""
        inner = _function(handler)

        def message(request: Any, call: Call) -> Any:
            reader = read_stream if handler.request_streaming else read
            return reader(request, handler.request_deserializer, name=call.request_type)

        async def single(request: Any, context: Context) -> Any:
            async with self._guards(method, context) as call, _deadline(call, applies=not handler.request_streaming):
                return await inner(message(request, call), context)

        async def stream(request: Any, context: Context) -> AsyncIterator[Any]:
            async with (
                self._guards(method, context) as call,
                aclosing(inner(message(request, call), context)) as responses,
            ):
                async for response in self._drain.until(responses):
                    yield response

        return stream if handler.response_streaming else single

    def _unknown(self, method: str) -> Callable[[Any, Context], Awaitable[None]]:
        async def behaviour(_: Any, context: Context) -> None:
            async with self._guards(method, context):
                raise UnknownMethod("no such method in this version; update the server, or check the method's name")

        return behaviour

    @asynccontextmanager
    async def _guards(self, method: str, context: Context) -> AsyncIterator[Call]:
        call = Call(method, context)
        async with _identified(call), _logged(call), _answered(call, self._translate):
            yield call


@asynccontextmanager
async def _identified(call: Call) -> AsyncIterator[None]:
    """Gives the request id back to the caller, and puts it on every line logged on the way."""
    call.context.set_trailing_metadata(((REQUEST_ID_KEY, call.request_id),))
    structlog.contextvars.clear_contextvars()
    structlog.contextvars.bind_contextvars(rpc=call.method.removeprefix(OWN_METHODS), request_id=call.request_id)
    yield


@asynccontextmanager
async def _logged(call: Call) -> AsyncIterator[None]:
    """One line a call, however it ends; at level debug for a periodic one that went well."""
    begun, peer = time.perf_counter(), call.context.peer()  # grpc forgets the peer when the call ends
    call.code = "CANCELLED"  # unless it comes to an answer
    try:
        yield
        call.code = "OK"
    finally:
        ms = round((time.perf_counter() - begun) * 1000, 2)
        reason = {"reason": call.reason} if call.reason else {}
        say = log.debug if call.method in PERIODIC and call.code == "OK" else log.info
        say("rpc_served", code=call.code, ms=ms, peer=peer, **reason)


@asynccontextmanager
async def _answered(call: Call, translate: Translate) -> AsyncIterator[None]:
    """Turns every exception into the one shape of answer."""
    try:
        yield
    except grpc.aio.AbortError:
        call.code = getattr(call.context.code(), "name", "ABORTED")
        raise
    except Exception as error:  # the edge: nothing may reach grpc, which would send its repr to the caller
        failure = expected(error, request_id=call.request_id, translate=translate)
        await _abort(call, failure)


async def _abort(call: Call, failure: TunesmithError) -> None:
    reply = answer(failure, request_id=call.request_id)
    call.code, call.reason = reply.code.name, failure.reason
    trailing = ((REQUEST_ID_KEY, call.request_id), (DETAILS_KEY, reply.details))
    await call.context.abort(reply.code, reply.message, trailing)


@asynccontextmanager
async def _deadline(call: Call, *, applies: bool) -> AsyncIterator[None]:
    """Ends a unary call at its caller's deadline, at 30 s at the latest, at 10 s where there is none."""
    remaining = call.context.time_remaining() if applies else None
    cap_s, default_s = UNARY_CAP_S, UNARY_DEFAULT_S
    if call.method in LONG_S:
        cap_s = default_s = LONG_S[call.method]
    limit = min(remaining, cap_s) if remaining is not None else default_s
    timer = asyncio.timeout(limit if applies else None)
    try:
        async with timer:
            yield
    except TimeoutError as error:
        if not timer.expired():
            raise
        raise DeadlineExceeded(f"not done within {limit:g} s; ask for less at a time, or try again") from error


def _function(handler: Handler) -> Any:
    return handler.unary_unary or handler.unary_stream or handler.stream_unary or handler.stream_stream


def _is_absent(handler: Handler) -> bool:
    """Whether the servicer left the method to the generated class, which has nothing to do it with."""
    return str(getattr(_function(handler), "__module__", "")).endswith("_pb2_grpc")


def _rebuilt(handler: Handler, behaviour: Callable[[Any, Context], Any]) -> Handler:
    """A handler of the same shape that takes requests as bytes."""
    shape = "_".join(
        "stream" if streaming else "unary" for streaming in (handler.request_streaming, handler.response_streaming)
    )
    make = getattr(grpc, f"{shape}_rpc_method_handler")
    return make(behaviour, request_deserializer=None, response_serializer=handler.response_serializer)
