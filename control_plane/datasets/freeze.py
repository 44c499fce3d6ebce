"""How a version comes to be: select, export, store the bytes, and only then the rows.

Samples and comparisons are never changed or deleted. So what was selected outside the transaction is still true within
it, and the bytes can be stored before; a failure in between leaves a blob that nothing names.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

from control_plane.datasets import comparison_store, store, version_store
from control_plane.datasets.derive import derive
from control_plane.datasets.model import Comparison, DatasetVersion, Sample, export
from control_plane.db.connection import Connection, execute
from control_plane.db.pool import Database
from control_plane.errors import DatasetEmpty
from control_plane.ids import new_id
from control_plane.ports import Blobs
from tunesmith.v1 import dataset_pb2


@dataclass(frozen=True, kw_only=True)
class Selection:
    """Samples that passed a filter, or that pairs or lists were derived from, and what is exported.

    digest: SHA-256 of the export.
    """

    dataset_id: str
    min_rating: float | None
    sample_ids: tuple[str, ...]
    jsonl: bytes
    digest: str
    derivation: dataset_pb2.Derivation | None = None


async def select(db: Database, *, dataset_id: str, min_rating: float | None) -> Selection:
    """The rated clips that a version would hold now. Raises DatasetNotFound, DatasetEmpty."""
    async with db.connection() as conn:
        await store.get(conn, dataset_id)
        samples = await store.select(conn, dataset_id=dataset_id, min_rating=min_rating)
        if not samples:
            highest = await store.highest_rating(conn, dataset_id)
            advice = "add samples first" if highest is None else f"lower min_rating; the highest rating is {highest:g}"
            raise DatasetEmpty(f"no sample of {dataset_id} passes the filter; {advice}", dataset_id=dataset_id)
    return await asyncio.to_thread(_rated, dataset_id, min_rating, samples)


async def select_derived(db: Database, *, dataset_id: str, wanted: dataset_pb2.Derivation) -> Selection:
    """The pairs or lists that a version would hold now. wanted: its settings. Raises DatasetNotFound, DatasetEmpty."""
    async with db.connection() as conn:
        await store.get(conn, dataset_id)
        samples = await store.select(conn, dataset_id=dataset_id, min_rating=None)
        comparisons = await comparison_store.select(conn, dataset_id=dataset_id)
    return await asyncio.to_thread(_derived, dataset_id, samples, comparisons, wanted)


# Both take long for large data sets, so they run in a thread.
def _rated(dataset_id: str, min_rating: float | None, samples: Sequence[Sample]) -> Selection:
    jsonl = export(samples)
    return Selection(
        dataset_id=dataset_id,
        min_rating=min_rating,
        sample_ids=tuple(sample.sample_id for sample in samples),
        jsonl=jsonl,
        digest=hashlib.sha256(jsonl).hexdigest(),
    )


def _derived(
    dataset_id: str, samples: Sequence[Sample], comparisons: Sequence[Comparison], wanted: dataset_pb2.Derivation
) -> Selection:
    jsonl, derivation = derive(dataset_id, samples, comparisons, wanted)
    return Selection(
        dataset_id=dataset_id,
        min_rating=None,
        sample_ids=tuple(sample.sample_id for sample in samples),
        jsonl=jsonl,
        digest=hashlib.sha256(jsonl).hexdigest(),
        derivation=derivation,
    )


def rehearsed(selection: Selection) -> DatasetVersion:
    """The version that freezing a selection would make, without what makes it that one."""
    return DatasetVersion(
        dataset_version_id="",
        dataset_id=selection.dataset_id,
        number=0,
        min_rating=selection.min_rating,
        sample_count=len(selection.sample_ids),
        digest=selection.digest,
        size_bytes=len(selection.jsonl),
        create_time=None,
        derivation=selection.derivation,
    )


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
        derivation=stored.selection.derivation,
    )
