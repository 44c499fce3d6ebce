"""Writes to adapters, each in one transaction. They are registered by runs.commands.finish_run, and nowhere else."""

from __future__ import annotations

from collections.abc import Mapping

from control_plane.adapters import store
from control_plane.adapters.model import Adapter
from control_plane.db.pool import Database
from control_plane.errors import EtagMismatch


async def update_labels(db: Database, *, adapter_id: str, etag: str = "", labels: Mapping[str, str]) -> Adapter:
    """Replace an adapter's labels. etag: of what was read; empty changes it anyway.

    Raises AdapterNotFound, EtagMismatch.
    """
    async with db.transaction() as conn:
        await store.lock(conn, adapter_id)
        found = await store.get(conn, adapter_id)
        if etag and etag != found.etag:
            raise EtagMismatch(
                "the adapter was changed since it was read; read it again and repeat the update",
                adapter_id=adapter_id,
                etag=found.etag,
            )
        await store.set_labels(conn, adapter_id, dict(labels))
        return await store.get(conn, adapter_id)
