"""Data sets, samples and versions in the database."""

from __future__ import annotations

from collections.abc import Sequence

from psycopg.types.json import Jsonb

from control_plane.datasets.model import Dataset, DatasetVersion, NewSample, Sample
from control_plane.db.connection import Connection, Row, execute, fetch_all, fetch_one, read_message
from control_plane.errors import DatasetNotFound, DatasetVersionNotFound
from control_plane.ids import new_ids
from control_plane.ports import AudioFacts
from tunesmith.v1 import dataset_pb2

# Rows that a long read asks for at a time: other calls are answered in between, and no statement runs into its timeout.
AT_ONCE = 1000


async def get(conn: Connection, dataset_id: str) -> Dataset:
    """One data set. Raises DatasetNotFound."""
    sql = """
        SELECT dataset_id, name, description, create_time,
               (SELECT count(*) FROM samples s WHERE s.dataset_id = d.dataset_id) AS sample_count,
               (SELECT count(*) FROM comparisons c WHERE c.dataset_id = d.dataset_id) AS comparison_count
        FROM datasets d WHERE dataset_id = %(id)s
    """
    return Dataset(**_found(await fetch_one(conn, sql, id=dataset_id), dataset_id))


async def page(
    conn: Connection, *, name: str = "", id_prefix: str = "", after: str | None = None, limit: int
) -> list[Dataset]:
    """At most `limit` data sets, newest first, beginning after the id `after`."""
    sql = """
        SELECT dataset_id, name, description, create_time,
               (SELECT count(*) FROM samples s WHERE s.dataset_id = d.dataset_id) AS sample_count,
               (SELECT count(*) FROM comparisons c WHERE c.dataset_id = d.dataset_id) AS comparison_count
        FROM datasets d
        WHERE (%(name)s = '' OR name = %(name)s) AND starts_with(dataset_id, %(id_prefix)s)
          AND (%(after)s::text IS NULL OR dataset_id < %(after)s)
        ORDER BY dataset_id DESC LIMIT %(limit)s
    """
    rows = await fetch_all(conn, sql, name=name, id_prefix=id_prefix, after=after, limit=limit)
    return [Dataset(**row) for row in rows]


async def insert(conn: Connection, *, dataset_id: str, name: str, description: str) -> bool:
    """Store a new data set; False where the name is taken."""
    sql = """
        INSERT INTO datasets (dataset_id, name, description) VALUES (%(dataset_id)s, %(name)s, %(description)s)
        ON CONFLICT (name) DO NOTHING RETURNING dataset_id
    """
    return await fetch_one(conn, sql, dataset_id=dataset_id, name=name, description=description) is not None


async def insert_samples(conn: Connection, *, dataset_id: str, samples: Sequence[tuple[NewSample, AudioFacts]]) -> int:
    """Store samples in their order, passing over those that are there already; how many were new."""
    sql = """
        INSERT INTO samples (sample_id, dataset_id, prompt, audio_digest, rating, tags,
                             duration_s, sample_rate_hz, channels)
        SELECT sample_id, %(dataset_id)s, prompt, audio_digest, rating, tags, duration_s, sample_rate_hz, channels
        FROM unnest(%(ids)s::text[], %(prompts)s::text[], %(digests)s::text[], %(ratings)s::float8[],
                    %(tags)s::jsonb[], %(durations)s::float8[], %(rates)s::int[], %(channels)s::smallint[])
          AS new (sample_id, prompt, audio_digest, rating, tags, duration_s, sample_rate_hz, channels)
        ON CONFLICT (dataset_id, audio_digest, md5(prompt)) DO NOTHING
    """
    return await execute(
        conn,
        sql,
        dataset_id=dataset_id,
        ids=new_ids("smp", len(samples)),
        prompts=[sample.prompt for sample, _ in samples],
        digests=[sample.audio_digest for sample, _ in samples],
        ratings=[float(sample.rating) for sample, _ in samples],
        tags=[Jsonb(sample.tags) for sample, _ in samples],
        durations=[float(facts.duration_s) for _, facts in samples],
        rates=[facts.sample_rate_hz for _, facts in samples],
        channels=[facts.channels for _, facts in samples],
    )


async def lock(conn: Connection, dataset_id: str) -> None:
    """Let nobody else add samples or comparisons until the transaction ends: two who add the same ones in different
    order would wait for each other, and the ids of one batch stand before those of the next."""
    await execute(conn, "SELECT FROM datasets WHERE dataset_id = %(id)s FOR NO KEY UPDATE", id=dataset_id)


async def known_samples(conn: Connection, *, dataset_id: str, digests: Sequence[str]) -> set[tuple[str, str]]:
    """(audio digest, prompt) of the samples that the data set has of these clips."""
    sql = """
        SELECT audio_digest, prompt FROM samples
        WHERE dataset_id = %(dataset_id)s AND audio_digest = ANY (%(digests)s)
    """
    rows = await fetch_all(conn, sql, dataset_id=dataset_id, digests=list(digests))
    return {(row["audio_digest"], row["prompt"]) for row in rows}


async def samples(conn: Connection, *, dataset_id: str, after: str | None = None, limit: int) -> list[Sample]:
    """At most `limit` samples of a data set, in the order they were added, beginning after the id `after`.

    Raises DatasetNotFound.
    """
    await get(conn, dataset_id)
    sql = """
        SELECT * FROM samples
        WHERE dataset_id = %(dataset_id)s AND (%(after)s::text IS NULL OR sample_id > %(after)s)
        ORDER BY sample_id LIMIT %(limit)s
    """
    return [Sample(**row) for row in await fetch_all(conn, sql, dataset_id=dataset_id, after=after, limit=limit)]


async def version_samples(
    conn: Connection, *, dataset_version_id: str, after: str | None = None, limit: int
) -> list[Sample]:
    """At most `limit` samples of a version, in the order of its export, beginning after the id `after`.

    Raises DatasetVersionNotFound.
    """
    await get_version(conn, dataset_version_id)
    sql = """
        SELECT s.* FROM dataset_version_samples v JOIN samples s USING (sample_id)
        WHERE v.dataset_version_id = %(id)s
          AND v.ordinal > coalesce((SELECT ordinal FROM dataset_version_samples
                                    WHERE dataset_version_id = %(id)s AND sample_id = %(after)s), 0)
        ORDER BY v.ordinal LIMIT %(limit)s
    """
    return [Sample(**row) for row in await fetch_all(conn, sql, id=dataset_version_id, after=after, limit=limit)]


async def get_version(conn: Connection, dataset_version_id: str) -> DatasetVersion:
    """One version. Raises DatasetVersionNotFound."""
    sql = "SELECT * FROM dataset_versions WHERE dataset_version_id = %(id)s"
    return require_version(await fetch_one(conn, sql, id=dataset_version_id), dataset_version_id)


async def versions(
    conn: Connection, *, dataset_id: str | None = None, id_prefix: str = "", after: str | None = None, limit: int
) -> list[DatasetVersion]:
    """At most `limit` versions, of a data set or of all, newest first, beginning after the id `after`."""
    sql = """
        SELECT * FROM dataset_versions
        WHERE (%(dataset_id)s::text IS NULL OR dataset_id = %(dataset_id)s)
          AND starts_with(dataset_version_id, %(id_prefix)s)
          AND (%(after)s::text IS NULL OR dataset_version_id < %(after)s)
        ORDER BY dataset_version_id DESC LIMIT %(limit)s
    """
    rows = await fetch_all(conn, sql, dataset_id=dataset_id or None, id_prefix=id_prefix, after=after, limit=limit)
    return [read_version(row) for row in rows]


def read_version(row: Row) -> DatasetVersion:
    """The version of a row."""
    return DatasetVersion(**{**row, "derivation": read_message(dataset_pb2.Derivation, row["derivation"])})


def require_version(row: Row | None, dataset_version_id: str) -> DatasetVersion:
    """The version of a row. Raises DatasetVersionNotFound where there is none."""
    if row is None:
        raise DatasetVersionNotFound(
            f"there is no data set version {dataset_version_id}; list them with ListDatasetVersions",
            dataset_version_id=dataset_version_id,
        )
    return read_version(row)


async def select(conn: Connection, *, dataset_id: str, min_rating: float | None) -> list[Sample]:
    """The samples that pass the filter, in the order of their ids."""
    sql = """
        SELECT * FROM samples
        WHERE dataset_id = %(dataset_id)s AND (%(min_rating)s::float8 IS NULL OR rating >= %(min_rating)s)
          AND sample_id > %(after)s
        ORDER BY sample_id LIMIT %(limit)s
    """
    found: list[Sample] = []
    while True:
        after = found[-1].sample_id if found else ""
        rows = await fetch_all(conn, sql, dataset_id=dataset_id, min_rating=min_rating, after=after, limit=AT_ONCE)
        found += [Sample(**row) for row in rows]
        if len(rows) < AT_ONCE:
            return found


async def highest_rating(conn: Connection, dataset_id: str) -> float | None:
    """The highest rating in the data set; None where it is empty."""
    sql = "SELECT max(rating) AS highest FROM samples WHERE dataset_id = %(dataset_id)s"
    row = await fetch_one(conn, sql, dataset_id=dataset_id)
    return None if row is None else row["highest"]


def _found(row: Row | None, dataset_id: str) -> Row:
    if row is None:
        raise DatasetNotFound(f"there is no data set {dataset_id}; list them with ListDatasets", dataset_id=dataset_id)
    return row
