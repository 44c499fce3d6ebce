"""Wake-ups: one LISTEN connection a process, fanned out to whoever waits on a topic.

A wake-up is a hint, never a fact: notifications are lost while a connection is down, so after each reconnect every
topic is woken, and every waiter also looks by itself from time to time. NOTIFY locks the whole server at commit:
transactions that change a state send one, those that write telemetry wake the local hub and no more.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import defaultdict
from collections.abc import Iterator

import psycopg
import structlog

from control_plane.db.connection import Connection, execute

log = structlog.get_logger()

CHANNEL = "tunesmith"
QUEUE = "queue"  # a run waits, or a slot became free
RECONNECT_MAX_S = 5.0


def run_topic(run_id: str) -> str:
    """Woken with each change of the run, its telemetry included."""
    return f"run/{run_id}"


async def notify(conn: Connection, *topics: str) -> None:
    """Wake these topics in every control plane when the transaction commits."""
    sql = "SELECT pg_notify(%(channel)s, topic) FROM unnest(%(topics)s::text[]) AS topic"
    if topics:
        await execute(conn, sql, channel=CHANNEL, topics=list(topics))


class Hub:
    """Events by topic, set by `wake` here and by NOTIFY from anywhere."""

    def __init__(self) -> None:
        self._waiting: dict[str, set[asyncio.Event]] = defaultdict(set)

    @contextlib.contextmanager
    def subscribe(self, topic: str) -> Iterator[asyncio.Event]:
        """An event that is set with each wake-up of `topic`. Clear it, then read, then wait."""
        event = asyncio.Event()
        self._waiting[topic].add(event)
        try:
            yield event
        finally:
            self._waiting[topic].discard(event)
            if not self._waiting[topic]:
                del self._waiting[topic]

    def wake(self, topic: str) -> None:
        """Wake whoever waits on `topic` in this process."""
        for event in self._waiting.get(topic, ()):
            event.set()

    def wake_all(self) -> None:
        """Wake everyone: something may have been missed."""
        for topic in list(self._waiting):
            self.wake(topic)

    async def listen(self, dsn: str) -> None:
        """Turn notifications into wake-ups, until cancelled. Reconnects ever later while the server is away."""
        pause_s = 0.1
        while True:
            try:
                async with await psycopg.AsyncConnection.connect(dsn, autocommit=True) as conn:
                    await conn.execute(f"LISTEN {CHANNEL}")
                    pause_s = 0.1
                    self.wake_all()
                    async for notification in conn.notifies():
                        self.wake(notification.payload)
            except (psycopg.Error, OSError) as error:
                log.warning("listen_lost", error=str(error).strip(), retry_s=pause_s)
            await asyncio.sleep(pause_s)
            pause_s = min(pause_s * 2, RECONNECT_MAX_S)
