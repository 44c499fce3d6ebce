"""The loop of every watch: wake-ups are hints, reads are truth.

A source reads what lies behind a place and tells the place behind that. The loop clears the wake-up, asks whether
anything can still be added, reads, and only then waits; so what is added between the read and the wait wakes it, and
what was added before the end is read before it ends. A lost wake-up costs one poll. A slow reader holds one frame: the
next one is read when it has taken this one.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from google.protobuf.message import Message

from services.rpc.tokens import seal, unseal
from tunesmith.errors import TunesmithError

C = TypeVar("C")
"""Where a reader stands."""
R = TypeVar("R", covariant=True)
"""What a frame carries."""

POLL_S = 1.0  # how often to look without a wake-up
HEARTBEAT_S = 5.0  # how long a stream may be silent
_NOT_BOUND = ("resume_token",)


class InvalidResumeToken(TunesmithError):
    """A resume token was not given by this watch of this run."""

    reason = "INVALID_RESUME_TOKEN"


class Source(Protocol[C, R]):
    """What is watched."""

    async def finished(self) -> bool:
        """Whether nothing will be added to what can be read from now on."""
        ...

    async def read(self, after: C) -> tuple[C, R | None]:
        """The next frame behind a place and the place behind it, or None where there is nothing (yet).

        The place may move without a frame, over what was not asked for.
        """
        ...


@dataclass(frozen=True)
class Frame(Generic[C, R]):
    """One frame of a watch. rows: None is a heartbeat; cursor: go on from here after it."""

    cursor: C
    rows: R | None


async def watch(
    source: Source[C, R],
    *,
    after: C,
    wake: asyncio.Event,
    poll_s: float = POLL_S,
    heartbeat_s: float = HEARTBEAT_S,
) -> AsyncGenerator[Frame[C, R], None]:
    """Everything behind a place, then each frame as it comes, and a heartbeat where there is none; ends after the end.

    wake: subscribed to before the call, set with each change of the source. Where there is nothing at first, a
    heartbeat comes at once, so that a client knows that it is connected.
    """
    cursor, silent_since = after, time.monotonic() - heartbeat_s
    while True:
        wake.clear()  # subscribed earlier; a change from here on wakes us
        done = await source.finished()  # asked before the read: nothing is added after it
        cursor, rows = await source.read(cursor)
        if rows is not None:
            yield Frame(cursor, rows)
            silent_since = time.monotonic()
            continue
        if done:
            return
        if time.monotonic() - silent_since >= heartbeat_s:
            yield Frame(cursor, None)
            silent_since = time.monotonic()
        await signalled(wake, within_s=min(poll_s, silent_since + heartbeat_s - time.monotonic()))


def token(request: Message, cursor: tuple[int, ...]) -> str:
    """The resume token of a place in the watch that `request` asks for."""
    return seal(request, list(cursor), without=_NOT_BOUND)


def resumed(request: Message, start: tuple[int, ...]) -> tuple[int, ...]:
    """The place where `request` goes on: that of its resume token, or `start`, which has as many numbers.

    Raises InvalidResumeToken.
    """
    text: str = getattr(request, "resume_token")  # noqa: B009  every watch has it, Message does not say so
    if not text:
        return start
    try:
        place = unseal(request, text, without=_NOT_BOUND)
    except ValueError:
        place = None
    if not isinstance(place, list) or len(place) != len(start) or not all(_is_position(part) for part in place):
        raise InvalidResumeToken("this watch did not give resume_token; start again without it")
    return tuple(place)


def _is_position(part: object) -> bool:
    return type(part) is int and 0 <= part < 2**63


async def signalled(event: asyncio.Event, *, within_s: float) -> bool:
    """Wait for `event`, at most so long. Returns whether it was set."""
    try:
        async with asyncio.timeout(max(within_s, 0)):
            await event.wait()
    except TimeoutError:
        return False
    return True
