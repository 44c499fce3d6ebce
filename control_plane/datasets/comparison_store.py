"""Comparisons in the database."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from control_plane.datasets import store
from control_plane.datasets.model import Comparison, NewComparison, RankedClip
from control_plane.db.connection import Connection, Row, execute, fetch_all, fetch_one
from control_plane.ids import new_ids


async def insert(
    conn: Connection, *, dataset_id: str, comparisons: Sequence[NewComparison], durations_s: Mapping[str, float]
) -> int:
    """Store comparisons in their order, passing over those that are there already; how many were new.

    durations_s: of every clip, by its digest.
    """
    sql = """
        WITH added AS (
            INSERT INTO comparisons (comparison_id, dataset_id, prompt, digest)
            SELECT comparison_id, %(dataset_id)s, prompt, digest
            FROM unnest(%(ids)s::text[], %(prompts)s::text[], %(digests)s::text[])
              AS new (comparison_id, prompt, digest)
            ON CONFLICT (dataset_id, digest) DO NOTHING RETURNING comparison_id),
        clips AS (
            INSERT INTO comparison_clips (comparison_id, ordinal, audio_digest, rank, duration_s)
            SELECT comparison_id, ordinal, audio_digest, rank, duration_s
            FROM unnest(%(of)s::text[], %(ordinals)s::smallint[], %(clips)s::text[], %(ranks)s::smallint[],
                        %(durations)s::float8[]) AS clip (comparison_id, ordinal, audio_digest, rank, duration_s)
            JOIN added USING (comparison_id))
        SELECT count(*) AS added FROM added
    """
    # a full request brings some 50,000 clips
    await execute(conn, "SET LOCAL statement_timeout = '60s'")
    ids = new_ids("cmp", len(comparisons))
    clips = [
        (comparison_id, ordinal, digest, rank, float(durations_s[digest]))
        for comparison_id, comparison in zip(ids, comparisons, strict=True)
        for ordinal, (digest, rank) in enumerate(comparison.best_first, start=1)
    ]
    row = await fetch_one(
        conn,
        sql,
        dataset_id=dataset_id,
        ids=ids,
        prompts=[comparison.prompt for comparison in comparisons],
        digests=[comparison.digest for comparison in comparisons],
        **{name: [clip[place] for clip in clips] for place, name in enumerate(_COLUMNS)},
    )
    return 0 if row is None else int(row["added"])


_COLUMNS = ("of", "ordinals", "clips", "ranks", "durations")


async def known(conn: Connection, *, dataset_id: str, digests: Sequence[str]) -> set[str]:
    """Those of `digests`, which name comparisons, that the data set has."""
    sql = "SELECT digest FROM comparisons WHERE dataset_id = %(dataset_id)s AND digest = ANY (%(digests)s)"
    return {row["digest"] for row in await fetch_all(conn, sql, dataset_id=dataset_id, digests=list(digests))}


async def known_audio(conn: Connection, *, dataset_id: str, digests: Sequence[str]) -> dict[str, float]:
    """Length in seconds of those of `digests`, which name audio, that the data set has in a sample or a comparison."""
    sql = """
        SELECT audio_digest, duration_s FROM samples
        WHERE dataset_id = %(dataset_id)s AND audio_digest = ANY (%(digests)s)
        UNION
        SELECT audio_digest, duration_s FROM comparison_clips JOIN comparisons USING (comparison_id)
        WHERE dataset_id = %(dataset_id)s AND audio_digest = ANY (%(digests)s)
    """
    rows = await fetch_all(conn, sql, dataset_id=dataset_id, digests=list(digests))
    return {row["audio_digest"]: row["duration_s"] for row in rows}


async def page(conn: Connection, *, dataset_id: str, after: str | None = None, limit: int) -> list[Comparison]:
    """At most `limit` comparisons of a data set, in the order they were added, beginning after the id `after`.

    Raises DatasetNotFound.
    """
    await store.get(conn, dataset_id)
    return await _page(conn, dataset_id=dataset_id, after=after, limit=limit)


async def select(conn: Connection, *, dataset_id: str) -> list[Comparison]:
    """Every comparison of a data set, in the order they were added; none where there is no such data set."""
    found: list[Comparison] = []
    while True:
        after = found[-1].comparison_id if found else None
        more = await _page(conn, dataset_id=dataset_id, after=after, limit=store.AT_ONCE)
        found += more
        if len(more) < store.AT_ONCE:
            return found


async def _page(conn: Connection, *, dataset_id: str, after: str | None, limit: int) -> list[Comparison]:
    sql = """
        SELECT c.comparison_id, c.dataset_id, c.prompt, c.create_time, clips.*
        FROM (SELECT * FROM comparisons
              WHERE dataset_id = %(dataset_id)s AND (%(after)s::text IS NULL OR comparison_id > %(after)s)
              ORDER BY comparison_id LIMIT %(limit)s) AS c
        CROSS JOIN LATERAL (SELECT array_agg(audio_digest ORDER BY ordinal) AS digests,
                                   array_agg(rank ORDER BY ordinal) AS ranks,
                                   array_agg(duration_s ORDER BY ordinal) AS durations
                            FROM comparison_clips WHERE comparison_id = c.comparison_id) AS clips
        ORDER BY c.comparison_id
    """
    return [_comparison(row) for row in await fetch_all(conn, sql, dataset_id=dataset_id, after=after, limit=limit)]


def _comparison(row: Row) -> Comparison:
    columns = zip(row["digests"], row["ranks"], row["durations"], strict=True)
    return Comparison(
        comparison_id=row["comparison_id"],
        dataset_id=row["dataset_id"],
        prompt=row["prompt"],
        clips=tuple(RankedClip(audio_digest=digest, rank=rank, duration_s=s) for digest, rank, s in columns),
        create_time=row["create_time"],
    )
