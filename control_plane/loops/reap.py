"""Takes back what lost nodes hold: jobs of which nothing was heard for a whole lease.

A node that cannot be heard may be alive behind a cut link, and after an outage of ours all of them look dead. So after
a start, and after a pause in which leases could not be renewed, every lease first gets a full term. Any number of
control planes may reap: a lease is looked at again under its lock.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import structlog

from control_plane.config import DispatchConfig
from control_plane.db.pool import Database
from control_plane.runs import commands, job_store
from control_plane.runs.model import Job

log = structlog.get_logger()

BATCH = 100


async def grant_full_term(db: Database, lease_s: float) -> int:
    """Let every live lease last `lease_s` from now; how many there are."""
    async with db.transaction() as conn:
        return await job_store.grant_full_term(conn, lease_s=lease_s)


class Reap:
    """A loop. clock: seconds that go on while the machine sleeps, to notice that we were away."""

    def __init__(self, db: Database, config: DispatchConfig, *, clock: Callable[[], float] = time.time) -> None:
        self._db = db
        self._config = config
        self._clock = clock
        self._last_look: float | None = None

    async def tick(self) -> None:
        """Lose each attempt whose lease has run out, unless we were away ourselves."""
        if self._was_away():
            granted = await grant_full_term(self._db, self._config.lease_s)
            if granted:
                log.info("leases_renewed_after_pause", count=granted)
        else:
            async with self._db.connection() as conn:
                await job_store.note_silence(conn, lease_s=self._config.lease_s)
                silent = await job_store.expired(conn, limit=BATCH)
            for job in silent:
                await self._lose(job)
        self._last_look = self._clock()  # not after a failure: then the next look finds that we were away

    def _was_away(self) -> bool:
        """Whether there was no look for half a lease more than there should have been: none may have been renewed."""
        late_s = self._config.poll_s + self._config.lease_s / 2
        return self._last_look is None or abs(self._clock() - self._last_look) > late_s

    async def _lose(self, job: Job) -> None:
        reason = f"nothing was heard of its node {job.node_id} for {self._config.lease_s:g} s"
        run = await commands.lose_attempt(
            self._db, job, reason, if_expired=True, max_lost_attempts=self._config.max_lost_attempts
        )
        if run is not None:
            facts = {"run_id": job.run_id, "attempt": job.attempt, "node_id": job.node_id, "state": str(run.state)}
            log.warning("lease_expired", lost_attempts=run.lost_attempts, **facts)
