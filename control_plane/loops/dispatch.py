"""Dispatch: give queued runs to nodes, each to one node at a time, and see to it that nodes start and stop them.

Any number of control planes may run this at once: `claim_next` locks what it takes. A node is never called inside a
transaction: claim, commit, call. Calls are hints, repeated with every tick until the database says otherwise: StartJob
until it is acknowledged, StopJob until the job has ended. A call that is lost costs a tick; a node that is lost costs a
lease, which `reap` takes back. A slow node delays nobody else: a tick leaves its call to itself after a while.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Collection
from dataclasses import dataclass

import structlog

from control_plane.config import DispatchConfig
from control_plane.db.failures import expected_failure
from control_plane.db.pool import Database
from control_plane.loops.orders import Orders
from control_plane.nodes import store as nodes
from control_plane.nodes.model import Node
from control_plane.ports import Trainer
from control_plane.runs import commands, job_store
from control_plane.runs import store as runs
from control_plane.runs.model import Job

log = structlog.get_logger()

LONGEST_REST_S = 60.0


@dataclass
class _Rest:
    """A node that had no room is not given work until then (time.monotonic), ever longer."""

    until: float
    pause_s: float


class Dispatch:
    """A loop, to be woken by the topic `queue`."""

    def __init__(self, db: Database, trainer: Trainer, config: DispatchConfig) -> None:
        self._db = db
        self._config = config
        self._orders = Orders(db, trainer, config)
        self._calls: dict[str, asyncio.Task[None]] = {}  # by job or node: one call at a time each
        self._rests: dict[str, _Rest] = {}
        self._reconciled: dict[str, float] = {}

    async def tick(self) -> None:
        """Claim what fits, then call nodes. Returns when the calls are answered, or after `poll_s`."""
        async with self._db.connection() as conn:
            known = await nodes.page(conn, limit=10_000, silence_s=self._config.node_silence_s)
            waiting = await runs.waiting_kinds(conn)
        online = [node for node in known if node.online]
        if waiting:
            await self._claim(online, waiting)
        async with self._db.connection() as conn:
            unacknowledged = await job_store.unacknowledged(conn)
            stopping = await job_store.stopping(conn)
        at = {node.node_id: node for node in known}
        for job in unacknowledged:
            self._call(job.job_id, self._start, at[job.node_id], job)
        for job in stopping:
            self._call(job.job_id, self._orders.stop, at[job.node_id], job)
        self._reconcile(online)
        if waiting:
            await commands.explain_queue(self._db, silence_s=self._config.node_silence_s)
        if self._calls:
            await asyncio.wait(self._calls.values(), timeout=self._config.poll_s)

    async def _claim(self, online: Collection[Node], waiting: Collection[str]) -> None:
        """Fill the free slots of each node that runs something that waits."""
        now = time.monotonic()
        for node in online:
            rest = self._rests.get(node.node_id)
            if not set(node.kinds).intersection(waiting) or (rest is not None and now < rest.until):
                continue
            while claimed := await commands.claim_next(self._db, node_id=node.node_id, lease_s=self._config.lease_s):
                run, job, checkpoint = claimed
                log.info(
                    "run_claimed",
                    run_id=run.run_id,
                    attempt=job.attempt,
                    node_id=node.node_id,
                    resumed_step=checkpoint.step if checkpoint else None,
                )

    async def _start(self, node: Node, job: Job) -> None:
        if await self._orders.start(node, job):
            self._rests.pop(node.node_id, None)
            return
        before = self._rests.get(node.node_id)
        pause_s = min(2 * before.pause_s, LONGEST_REST_S) if before else self._config.poll_s
        self._rests[node.node_id] = _Rest(until=time.monotonic() + pause_s, pause_s=pause_s)

    def _reconcile(self, online: Collection[Node]) -> None:
        """Compare what runs with what should, on each node once in a while."""
        now = time.monotonic()
        for node in online:
            if now - self._reconciled.get(node.node_id, 0.0) >= self._config.reconcile_s:
                self._reconciled[node.node_id] = now
                self._call(node.node_id, self._orders.stop_strays, node)

    def _call(self, key: str, order: Callable[..., Awaitable[None]], *about: Node | Job) -> None:
        """Begin an order, unless one about the same job or node is under way."""
        if key not in self._calls:
            self._calls[key] = asyncio.create_task(self._carry_out(key, order, *about), name=f"order {key}")

    async def _carry_out(self, key: str, order: Callable[..., Awaitable[None]], *about: Node | Job) -> None:
        try:
            await order(*about)
        except Exception as error:  # the next tick gives it again
            if known := expected_failure(error):
                log.warning("order_interrupted", about=key, error=known.message)
            else:
                log.exception("order_failed", about=key)
        finally:
            del self._calls[key]
