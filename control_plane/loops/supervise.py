"""Keeps a loop going: a tick that fails is logged each time and tried again, ever later; it never ends the loop."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import structlog

from control_plane.db.failures import expected_failure

log = structlog.get_logger()

Tick = Callable[[], Awaitable[object]]
LONGEST_PAUSE_S = 30.0


async def supervise(
    name: str, tick: Tick, *, every_s: float, stop: asyncio.Event, wake: asyncio.Event | None = None
) -> None:
    """Run `tick` at once, then every `every_s` seconds and whenever `wake` is set, until `stop` is set.

    A tick under way is not interrupted. After a failure the pause doubles from `every_s` to 30 s, and `wake` is not
    heeded: what fails is not hurried.
    """
    failures = 0
    while not stop.is_set():
        if wake is not None:
            wake.clear()  # before the tick: what happens from here on wakes us again
        try:
            await tick()
        except Exception as error:
            failures += 1
            pause_s = min(every_s * 2 ** min(failures - 1, 16), max(every_s, LONGEST_PAUSE_S))
            facts = {"loop": name, "failures": failures, "retry_s": pause_s}
            if known := expected_failure(error):
                log.warning("loop_interrupted", error=known.message, **facts)
            else:
                log.exception("loop_failed", **facts)
            await _first_of([stop], within_s=pause_s)
            continue
        if failures:
            log.info("loop_recovered", loop=name, failures=failures)
            failures = 0
        await _first_of([stop] if wake is None else [stop, wake], within_s=every_s)


async def _first_of(events: list[asyncio.Event], *, within_s: float) -> None:
    """Return when one of `events` is set, or the time is up."""
    waiting = [asyncio.ensure_future(event.wait()) for event in events]
    try:
        await asyncio.wait(waiting, timeout=within_s, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for each in waiting:
            each.cancel()
