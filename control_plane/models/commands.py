"""Writes to models, each in one transaction. They are registered by runs.commands.finish_run, and nowhere else."""

from __future__ import annotations

from collections.abc import Mapping

from control_plane.db.pool import Database
from control_plane.errors import EtagMismatch
from control_plane.models import store
from control_plane.models.model import Model


async def update_labels(db: Database, *, model_id: str, etag: str = "", labels: Mapping[str, str]) -> Model:
    """Replace a model's labels. etag: of what was read; empty changes it anyway.

    Raises ModelNotFound, EtagMismatch.
    """
    async with db.transaction() as conn:
        await store.lock(conn, model_id)
        found = await store.get(conn, model_id)
        if etag and etag != found.etag:
            raise EtagMismatch(
                "the model was changed since it was read; read it again and repeat the update",
                model_id=model_id,
                etag=found.etag,
            )
        await store.set_labels(conn, model_id, dict(labels))
        return await store.get(conn, model_id)
