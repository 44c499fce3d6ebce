"""Loops survive what goes wrong in a tick."""

from __future__ import annotations

import asyncio

import psycopg
from structlog.testing import capture_logs

from control_plane.loops.supervise import supervise


async def test_a_tick_that_fails_is_logged_each_time_and_tried_again():
    stop, ticks = asyncio.Event(), 0

    async def tick():
        nonlocal ticks
        ticks += 1
        if ticks < 3:
            raise RuntimeError("no luck")
        stop.set()

    with capture_logs() as logs:
        await asyncio.wait_for(supervise("bad", tick, every_s=0.001, stop=stop), 5)

    assert [(entry["event"], entry.get("failures")) for entry in logs] == [
        ("loop_failed", 1),
        ("loop_failed", 2),
        ("loop_recovered", 2),
    ]
    assert logs[1]["retry_s"] == 2 * logs[0]["retry_s"]


async def test_a_wake_up_during_a_tick_is_not_lost():
    stop, wake, ticks = asyncio.Event(), asyncio.Event(), 0

    async def tick():
        nonlocal ticks
        ticks += 1
        if ticks == 1:
            wake.set()
        else:
            stop.set()

    await asyncio.wait_for(supervise("loop", tick, every_s=3600, stop=stop, wake=wake), 5)

    assert ticks == 2


async def test_it_stops_when_asked_while_it_waits():
    stop = asyncio.Event()

    async def tick():
        asyncio.get_running_loop().call_later(0.01, stop.set)

    await asyncio.wait_for(supervise("loop", tick, every_s=3600, stop=stop), 5)


async def test_a_database_that_is_away_is_one_sentence_and_no_traceback():
    stop = asyncio.Event()

    async def tick():
        stop.set()
        raise psycopg.OperationalError("server closed the connection unexpectedly")

    with capture_logs() as logs:
        await asyncio.wait_for(supervise("reap", tick, every_s=0.001, stop=stop), 5)

    (told,) = logs
    assert (told["event"], told["log_level"], told["loop"]) == ("loop_interrupted", "warning", "reap")
    assert "the database is not reachable right now" in told["error"] and "exc_info" not in told
