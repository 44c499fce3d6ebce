"""How a version comes to be: select, export, store the bytes, and only then the rows.

Samples are never changed or deleted. So what was selected outside the transaction is still true within it, and the
bytes can be stored before; a failure in between leaves a blob that nothing names.
"""

from __future__ import annotations

import asyncio
import hashlib
from dataclasses import dataclass

from control_plane.datasets import store, version_store
from control_plane.datasets.model import DatasetVersion, export
from control_plane.db.connection import Connection, execute
from control_plane.db.pool import Database
from control_plane.errors import DatasetEmpty
from control_plane.ids import new_id
from control_plane.ports import Blobs


@dataclass(frozen=True, kw_only=True)
class Selection:
    """Samples that passed a filter, and their export."""

    dataset_id: str
    min_rating: float | None
    sample_ids: tuple[str, ...]
    jsonl: bytes

    @property
    def digest(self) -> str:
        """SHA-256 of the export."""
        return hashlib.sha256(self.jsonl).hexdigest()


async def select(db: Database, *, dataset_id: str, min_rating: float | None) -> Selection:
    """What a version would hold now. Raises DatasetNotFound, DatasetEmpty."""
    async with db.connection() as conn:
        await store.get(conn, dataset_id)
        samples = await store.select(conn, dataset_id=dataset_id, min_rating=min_rating)
        if not samples:
            highest = await store.highest_rating(conn, dataset_id)
            advice = "add samples first" if highest is None else f"lower min_rating; the highest rating is {highest:g}"
            raise DatasetEmpty(f"no sample of {dataset_id} passes the filter; {advice}", dataset_id=dataset_id)
    sample_ids = tuple(sample.sample_id for sample in samples)
    jsonl = await asyncio.to_thread(export, samples)
    return Selection(dataset_id=dataset_id, min_rating=min_rating, sample_ids=sample_ids, jsonl=jsonl)


@dataclass(frozen=True, kw_only=True)
class Stored:
    """A selection whose bytes are a blob."""

    selection: Selection
    digest: str


async def store_bytes(blobs: Blobs | None, selection: Selection) -> Stored:
    """Put the export where it is kept; with no blobs only tell what it would be named."""
    digest = await blobs.put_bytes(selection.jsonl) if blobs else selection.digest
    return Stored(selection=selection, digest=digest)


async def insert(conn: Connection, stored: Stored) -> DatasetVersion:
    """The rows of the new version. A long list of samples may take longer than other statements do."""
    await execute(conn, "SET LOCAL statement_timeout = '60s'")
    return await version_store.insert(
        conn,
        dataset_version_id=new_id("dsv"),
        dataset_id=stored.selection.dataset_id,
        min_rating=stored.selection.min_rating,
        sample_ids=stored.selection.sample_ids,
        digest=stored.digest,
        size_bytes=len(stored.selection.jsonl),
    )
