"""Wake-ups: a change of state is told to every control plane, and what is not a change is not."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

import psycopg
import pytest

from control_plane.db.notify import QUEUE, run_topic
from control_plane.db.pool import Database, connect
from control_plane.runs.commands import cancel_run
from tests.support.registry import Registry

SOON_S = 5.0


@contextlib.asynccontextmanager
async def listening(db: Database, topic: str) -> AsyncIterator[asyncio.Event]:
    """An event of the topic, once the hub listens: every topic is woken then."""
    with db.hub.subscribe(topic) as event:
        await asyncio.wait_for(event.wait(), SOON_S)
        event.clear()
        yield event


async def test_a_change_of_state_wakes_the_runs_watchers_in_every_control_plane(registry: Registry, dsn: str):
    run = await registry.queued()
    other = await registry.queued(await registry.experiment("other"))
    async with connect(dsn, pool_size=2) as elsewhere, listening(elsewhere, run_topic(run.run_id)) as woken:
        await cancel_run(registry.db, run_id=other.run_id)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(woken.wait(), 0.1)

        await cancel_run(registry.db, run_id=run.run_id)

        await asyncio.wait_for(woken.wait(), SOON_S)


async def test_a_new_run_and_a_freed_slot_wake_dispatch(registry: Registry):
    experiment = await registry.experiment()
    async with connect_again(registry) as elsewhere, listening(elsewhere, QUEUE) as woken:
        run = await registry.queued(experiment)
        await asyncio.wait_for(woken.wait(), SOON_S)

        woken.clear()
        await cancel_run(registry.db, run_id=run.run_id)
        await asyncio.wait_for(woken.wait(), SOON_S)


async def test_a_transaction_that_fails_wakes_nobody(registry: Registry):
    experiment = await registry.experiment()
    async with connect_again(registry) as elsewhere, listening(elsewhere, QUEUE) as woken:
        await registry.queued(experiment, validate_only=True)

        with pytest.raises(TimeoutError):
            await asyncio.wait_for(woken.wait(), 0.1)


async def test_a_listener_that_was_cut_off_listens_again_and_wakes_everyone(db: Database):
    async with listening(db, "anything") as woken:
        async with db.connection() as conn:
            sql = """
                SELECT pg_terminate_backend(pid) FROM pg_stat_activity
                WHERE query = 'LISTEN tunesmith' AND datname = current_database()
            """
            await conn.execute(sql)

        await asyncio.wait_for(woken.wait(), SOON_S)


async def test_a_statement_that_takes_too_long_is_given_up(db: Database):
    async with db.connection() as conn:
        cursor = await conn.execute(
            "SELECT current_setting('statement_timeout') AS statement, "
            "current_setting('idle_in_transaction_session_timeout') AS idle"
        )
        assert await cursor.fetchone() == {"statement": "5s", "idle": "10s"}
    with pytest.raises(psycopg.errors.QueryCanceled):
        async with db.transaction() as conn:
            await conn.execute("SET LOCAL statement_timeout = 20")
            await conn.execute("SELECT pg_sleep(60)")


def connect_again(registry: Registry) -> contextlib.AbstractAsyncContextManager[Database]:
    """Another control plane over the same database."""
    return connect(registry.db.pool.conninfo, pool_size=2)
