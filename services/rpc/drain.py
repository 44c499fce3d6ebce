"""Ending streams when the server goes down.

A watch may sit for seconds in one wait. Its task is interrupted only inside that wait, never while grpc sends: a
cancellation there would end the call as CANCELLED, and the watcher would not know that it should come back.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from typing import Any, TypeVar

from services.rpc.errors import GoingDown

T = TypeVar("T")


class Drain:
    """Whether the server goes down, and the streams to be told of it."""

    def __init__(self) -> None:
        self._begun = asyncio.Event()
        self._waiting: set[asyncio.Task[Any]] = set()

    def begin(self) -> None:
        """End every stream now with GoingDown, and every later one at once."""
        self._begun.set()
        for task in self._waiting:
            task.cancel()

    async def until(self, messages: AsyncIterator[T]) -> AsyncGenerator[T, None]:
        """Pass `messages` on until they end or the server goes down (raises GoingDown)."""
        task = asyncio.current_task()
        assert task is not None, "streams are served inside a task"
        while not self._begun.is_set():
            self._waiting.add(task)
            try:
                message = await anext(messages)
            except StopAsyncIteration:
                return
            except asyncio.CancelledError:
                # Ours alone ends in an answer; where the caller has left as well, there is nobody to answer.
                if not self._begun.is_set() or task.uncancel() > 0:
                    raise
                break
            finally:
                self._waiting.discard(task)
            yield message
        raise GoingDown("the server is going down; connect again and go on after the last message received")
