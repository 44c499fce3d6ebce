"""The life of a program: signals, and how it ends."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Awaitable, Callable

SIGNALS = (signal.SIGTERM, signal.SIGINT)


def run_until_signalled(program: Callable[[asyncio.Event], Awaitable[None]]) -> None:
    """Run `program` until it returns, or SIGTERM or SIGINT sets the event it is given. A second signal kills.

    A failure among parallel tasks is raised as itself, so that callers can tell a setting from a bug.
    """
    try:
        asyncio.run(_run(program))
    except BaseExceptionGroup as group:
        raise only(group) from group


async def _run(program: Callable[[asyncio.Event], Awaitable[None]]) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()

    def stopping() -> None:
        stop.set()
        for number in SIGNALS:
            loop.remove_signal_handler(number)

    for number in SIGNALS:
        loop.add_signal_handler(number, stopping)
    await program(stop)


def only(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """The one exception within, however deep; the group itself where there are more."""
    error: BaseException = group
    while isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
        error = error.exceptions[0]
    return error
