"""Writes to adapters and their evaluations, each in one transaction.

Adapters are registered by runs.commands.finish_run, and nowhere else.
"""

from __future__ import annotations

from collections.abc import Mapping

from control_plane.adapters import evaluated_runs, evaluation_store, store
from control_plane.adapters.model import Adapter, Evaluation, NewEvaluation
from control_plane.db import requests
from control_plane.db.pool import Database
from control_plane.db.requests import Request
from control_plane.errors import EtagMismatch
from control_plane.ids import new_id


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


async def create_evaluation(db: Database, new: NewEvaluation, *, request: Request | None = None) -> Evaluation:
    """Store what was measured of an adapter's clips.

    Raises AdapterNotFound, RunNotFound, RequestIdReused, and InvalidField for runs that do not play them.
    """
    async with db.transaction() as conn:
        if made := await requests.replay(conn, request):
            return await evaluation_store.get(conn, made)
        await store.get(conn, new.adapter_id)
        await evaluated_runs.require(conn, new)
        evaluation_id = new_id("evl")
        await evaluation_store.insert(conn, evaluation_id, new)
        await requests.remember(conn, request, evaluation_id)
        return await evaluation_store.get(conn, evaluation_id)
