"""Forgets what is kept for a time only: the answers of Create and Resume calls."""

from __future__ import annotations

import structlog

from control_plane.config import PruneConfig
from control_plane.db import requests
from control_plane.db.pool import Database

log = structlog.get_logger()


class Prune:
    """A loop. Any number of control planes may run it: each passes over rows that another is deleting."""

    def __init__(self, db: Database, config: PruneConfig) -> None:
        self._db = db
        self._config = config

    async def tick(self) -> None:
        """Delete in short transactions until nothing old is left."""
        forgotten = 0
        while True:
            async with self._db.transaction() as conn:
                deleted = await requests.forget(
                    conn, older_than_hours=self._config.request_hours, limit=self._config.batch
                )
            forgotten += deleted
            if deleted < self._config.batch:
                break
        if forgotten:
            log.info("requests_forgotten", count=forgotten)
