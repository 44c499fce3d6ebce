"""Frames of a stream that have arrived and are not stored yet: what batches are made of, where a fast node waits."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator
from dataclasses import dataclass
from types import TracebackType
from typing import TypeVar

from control_plane.errors import NodeUnreachable
from tunesmith.v1 import job_event_pb2, trainer_pb2

T = TypeVar("T")

CAPACITY_BYTES = 1024 * 1024  # then the stream is not read on, and gRPC holds the node back


@dataclass(frozen=True)
class Arrived:
    """What came since the last look. ended: nothing comes after it."""

    events: list[job_event_pb2.JobEvent]
    heartbeat: bool
    ended: bool


class Inbox:
    """Reads `frames` ahead, while entered, up to CAPACITY_BYTES and one frame more."""

    def __init__(self, frames: AsyncIterator[trainer_pb2.StreamJobEventsResponse]) -> None:
        self._frames = frames
        self._arrived = asyncio.Event()
        self._room = asyncio.Event()
        self._events: list[job_event_pb2.JobEvent] = []
        self._size_bytes = 0
        self._heartbeat = False
        self._reader: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Inbox:
        self._room.set()
        self._reader = asyncio.create_task(self._read())
        self._reader.add_done_callback(lambda _: self._arrived.set())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._reader is not None:
            self._reader.cancel()
            await asyncio.wait([self._reader])

    async def take(self, *, within_s: float) -> Arrived:
        """Everything that has arrived, waiting for the first of it. Raises what the stream failed with, once what came
        before is taken, and NodeUnreachable where nothing comes in time."""
        assert self._reader is not None, "an inbox is entered before it is read"
        if not self._reader.done():
            try:
                async with asyncio.timeout(within_s):
                    await self._arrived.wait()
            except TimeoutError:
                raise NodeUnreachable(f"the node has sent no sign of life for {within_s:.0f} s") from None
        self._arrived.clear()
        done = self._reader.done()
        if done and not self._events:
            self._reader.result()
        arrived = Arrived(self._events, self._heartbeat, done and self._reader.exception() is None)
        self._events, self._heartbeat, self._size_bytes = [], False, 0
        self._room.set()
        return arrived

    async def _read(self) -> None:
        async with closed_after(self._frames) as frames:
            async for frame in frames:
                await self._room.wait()
                self._size_bytes += frame.ByteSize()
                self._events += frame.events.events
                self._heartbeat = self._heartbeat or frame.HasField("heartbeat")
                if self._size_bytes >= CAPACITY_BYTES:
                    self._room.clear()
                self._arrived.set()


@contextlib.asynccontextmanager
async def closed_after(items: AsyncIterator[T]) -> AsyncIterator[AsyncIterator[T]]:
    """`items`, closed on the way out where they are a generator, so that the call behind them ends at once."""
    try:
        yield items
    finally:
        if isinstance(items, AsyncGenerator):
            await items.aclose()
