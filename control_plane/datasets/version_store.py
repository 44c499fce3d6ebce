"""How versions come, are held and go, in the database."""

from __future__ import annotations

from collections.abc import Sequence

from control_plane.datasets.model import DatasetVersion, Form
from control_plane.datasets.store import read_version, require_version
from control_plane.db.connection import Connection, execute, fetch_all, fetch_one, message_column
from tunesmith.v1 import dataset_pb2


async def hold(conn: Connection, dataset_version_id: str) -> DatasetVersion:
    """One version, kept from being deleted until the transaction ends. Raises DatasetVersionNotFound."""
    sql = "SELECT * FROM dataset_versions WHERE dataset_version_id = %(id)s FOR KEY SHARE"
    return require_version(await fetch_one(conn, sql, id=dataset_version_id), dataset_version_id)


async def latest(conn: Connection, dataset_id: str, *, form: Form) -> DatasetVersion | None:
    """The newest version of a data set that holds this, kept from being deleted like `hold` does; None where
    there is none."""
    sql = """
        SELECT * FROM dataset_versions
        WHERE dataset_id = %(dataset_id)s
          AND CASE WHEN derivation IS NULL THEN 'rated clips' WHEN derivation -> 'pairs' IS NOT NULL THEN 'pairs'
                   ELSE 'ranked lists' END = %(form)s
        ORDER BY number DESC LIMIT 1 FOR KEY SHARE
    """
    row = await fetch_one(conn, sql, dataset_id=dataset_id, form=str(form))
    return None if row is None else read_version(row)


async def equal(conn: Connection, *, dataset_id: str, min_rating: float | None, digest: str) -> DatasetVersion | None:
    """The version of rated clips that this filter froze with these bytes; None where there is none."""
    sql = """
        SELECT * FROM dataset_versions
        WHERE dataset_id = %(dataset_id)s AND digest = %(digest)s AND derivation IS NULL
          AND min_rating IS NOT DISTINCT FROM %(min_rating)s::float8
        ORDER BY number DESC LIMIT 1
    """
    row = await fetch_one(conn, sql, dataset_id=dataset_id, digest=digest, min_rating=min_rating)
    return None if row is None else read_version(row)


async def insert(
    conn: Connection,
    *,
    dataset_version_id: str,
    dataset_id: str,
    min_rating: float | None,
    sample_ids: Sequence[str],
    digest: str,
    size_bytes: int,
    derivation: dataset_pb2.Derivation | None,
) -> DatasetVersion:
    """Freeze these samples, in this order, or what was derived from them, under the data set's next number.

    A number is never used twice.
    """
    sql = """
        WITH counted AS (
            UPDATE datasets SET last_version = last_version + 1 WHERE dataset_id = %(dataset_id)s
            RETURNING last_version),
        version AS (
            INSERT INTO dataset_versions
                   (dataset_version_id, dataset_id, number, min_rating, sample_count, digest, size_bytes,
                    derivation)
            SELECT %(id)s, %(dataset_id)s, last_version, %(min_rating)s, cardinality(%(sample_ids)s::text[]),
                   %(digest)s, %(size_bytes)s, %(derivation)s::jsonb
            FROM counted RETURNING *),
        members AS (
            INSERT INTO dataset_version_samples (dataset_version_id, ordinal, sample_id)
            SELECT %(id)s, ordinal, sample_id
            FROM unnest(%(sample_ids)s::text[]) WITH ORDINALITY AS member (sample_id, ordinal))
        SELECT * FROM version
    """
    row = await fetch_one(
        conn,
        sql,
        id=dataset_version_id,
        dataset_id=dataset_id,
        min_rating=min_rating,
        sample_ids=list(sample_ids),
        digest=digest,
        size_bytes=size_bytes,
        derivation=message_column(derivation),
    )
    return require_version(row, dataset_version_id)


async def lock(conn: Connection, dataset_version_id: str) -> DatasetVersion:
    """One version that no run can begin to use until the transaction ends. Raises DatasetVersionNotFound."""
    sql = "SELECT * FROM dataset_versions WHERE dataset_version_id = %(id)s FOR UPDATE"
    return require_version(await fetch_one(conn, sql, id=dataset_version_id), dataset_version_id)


async def users(conn: Connection, dataset_version_id: str) -> list[str]:
    """Ids of the runs and adapters that use a version."""
    sql = """
        SELECT run_id AS user_id FROM runs WHERE dataset_version_id = %(id)s
        UNION ALL SELECT adapter_id FROM adapters WHERE dataset_version_id = %(id)s
        ORDER BY user_id
    """
    return [row["user_id"] for row in await fetch_all(conn, sql, id=dataset_version_id)]


async def delete(conn: Connection, dataset_version_id: str) -> None:
    """Delete a version and its list of samples; the samples stay."""
    await execute(conn, "DELETE FROM dataset_versions WHERE dataset_version_id = %(id)s", id=dataset_version_id)
