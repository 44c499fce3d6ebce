"""Reading curves: filtered and thinned in the database.

Thinning splits the asked range into groups of 2^k steps, aligned at step 0, so the same data gives the same answer, and
a curve that grows keeps its old points until k grows by one. A group gives its minimum, its maximum and its first value
that is not finite; beside them stand the first and the last point of the range. Groups of 256 steps and more are read
from rollups, with the range's ragged ends from its steps; finer ones from the steps.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from control_plane.db.connection import Connection, Row, fetch_one
from control_plane.errors import RunNotFound
from control_plane.telemetry.model import BUCKET_STEPS, MAX_STEP, MetricsAnswer, Series
from control_plane.telemetry.rollup import EXTREMES, EXTREMES_OF_EXTREMES

MAX_ANSWER_POINTS = 120_000  # of all series together: about 2.4 MB, where clients receive 4 MiB at most
MIN_POINTS = 8  # of a series: two groups, and both ends
EXACT_STEPS = 32  # a curve of up to so many times its points is thinned from its steps, which costs 1 µs each
MAX_EXACT_STEPS = 400_000  # and of all curves of a query together


async def query_metrics(
    conn: Connection,
    run_id: str,
    names: Sequence[str],
    min_step: int | None,
    max_step: int | None,
    max_points: int,
) -> MetricsAnswer:
    """The metrics of a run by name, each with at most `max_points` (at least 8) points of the range, all where that
    many suffice. names: only these, all where empty. Many series share 120,000 points.

    conn: outside a transaction; everything is read from one snapshot. Raises RunNotFound.
    """
    asked = _Range.of(min_step, max_step)
    async with conn.transaction():
        await conn.execute(b"SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
        complete = await run_ended(conn, run_id=run_id)
        parts = await _read(conn, _PARTS_OF_RUN, run_id=run_id, names=sorted(set(names)) or None)
        query = _Query(conn, run_id, asked, parts)
        series = await query.series(max_points) if parts else []
        recorded = bool(series) or await _has_metrics(conn, run_id)
    return MetricsAnswer(series=series, complete=complete, recorded=recorded)


async def run_ended(conn: Connection, *, run_id: str) -> bool:
    """Whether a run has ended, so that no telemetry will be added. Raises RunNotFound."""
    row = await fetch_one(conn, "SELECT NOT live AS ended FROM runs WHERE run_id = %(run_id)s", run_id=run_id)
    if row is None:
        raise RunNotFound(f"there is no run {run_id}; list them with ListRuns", run_id=run_id)
    return bool(row["ended"])


@dataclass(frozen=True)
class _Range:
    """Steps from `low` to `high`, and the rollup buckets that lie wholly inside."""

    low: int
    high: int
    first_bucket: int
    last_bucket: int

    @classmethod
    def of(cls, min_step: int | None, max_step: int | None) -> _Range:
        low = max(min_step or 0, 0)
        high = MAX_STEP if max_step is None else min(max_step, MAX_STEP)
        return cls(low, high, -(-low // BUCKET_STEPS), (high + 1) // BUCKET_STEPS - 1)

    @property
    def edges(self) -> list[tuple[int, int]]:
        """The steps outside of whole buckets: before them and after them."""
        if self.first_bucket > self.last_bucket:
            return [(self.low, self.high)]
        return [(self.low, self.first_bucket * BUCKET_STEPS - 1), ((self.last_bucket + 1) * BUCKET_STEPS, self.high)]


@dataclass(frozen=True)
class _Query:
    """One question: a metric is an ordinal of `names`, its parts are the sets that it stands in."""

    conn: Connection
    run_id: str
    asked: _Range
    parts: list[Row]

    async def series(self, max_points: int) -> list[Series]:
        """Every metric that has a point in the range, by name."""
        names = sorted({part["name"] for part in self.parts})
        totals = {row["ordinal"]: row for row in await self._ask(_BUCKETS + _TOTALS, list(range(len(names))))}
        limit = min(max_points, max(MIN_POINTS, MAX_ANSWER_POINTS // max(len(totals), 1)))
        whole = [ordinal for ordinal, total in totals.items() if total["points"] <= limit]
        widths = _widths([totals[ordinal] for ordinal in totals if ordinal not in set(whole)], limit)
        fine = {ordinal: width for ordinal, width in widths.items() if width < BUCKET_STEPS}
        coarse = {ordinal: width for ordinal, width in widths.items() if width >= BUCKET_STEPS}
        found = await self._ask(_WHOLE, whole)
        found += await self._ask(_FROM_STEPS + _THINNED, list(fine), list(fine.values()))
        found += await self._ask(_BUCKETS + _FROM_BUCKETS + _THINNED, list(coarse), list(coarse.values()))
        return [
            Series(
                name=names[row["ordinal"]],
                steps=row["steps"],
                values=row["values"],
                times_us=row["times_us"],
                total_points=totals[row["ordinal"]]["points"],
            )
            for row in sorted(found, key=lambda row: int(row["ordinal"]))
        ]

    async def _ask(self, sql: str, ordinals: list[int], widths: list[int] | None = None) -> list[Row]:
        """Run one of the statements below for these metrics. widths: the steps of a group, one a metric."""
        if not ordinals:
            return []
        names = sorted({part["name"] for part in self.parts})
        wanted = {names[ordinal]: at for at, ordinal in enumerate(ordinals)}
        parts = [part for part in self.parts if part["name"] in wanted]
        edges = self.asked.edges
        return await _read(
            self.conn,
            sql,
            run_id=self.run_id,
            ordinals=[ordinals[wanted[part["name"]]] for part in parts],
            set_ids=[part["set_id"] for part in parts],
            positions=[part["position"] for part in parts],
            widths=[widths[wanted[part["name"]]] if widths else 1 for part in parts],
            low=self.asked.low,
            high=self.asked.high,
            first_bucket=self.asked.first_bucket,
            last_bucket=self.asked.last_bucket,
            bucket_steps=BUCKET_STEPS,
            edge_lows=[low for low, _ in edges],
            edge_highs=[high for _, high in edges],
        )


def _widths(totals: Sequence[Row], limit: int) -> dict[int, int]:
    """Steps of a group, by metric: the smallest power of two with which `limit` points suffice. Rollups stand in for
    steps where there would be too many to read."""
    widths = {total["ordinal"]: _width(total, limit) for total in totals}
    fine = sum(total["points"] for total in totals if widths[total["ordinal"]] < BUCKET_STEPS)
    for total in totals:
        if fine > MAX_EXACT_STEPS or total["points"] > EXACT_STEPS * limit:
            widths[total["ordinal"]] = max(widths[total["ordinal"]], BUCKET_STEPS)
    return widths


def _width(total: Row, limit: int) -> int:
    width = 1
    first, last = total["first_bucket"] * BUCKET_STEPS, (total["last_bucket"] + 1) * BUCKET_STEPS - 1
    while True:
        groups = last // width - first // width + 1
        if 2 * groups + min(groups, total["non_finite_points"]) + 2 <= limit:
            return width
        width *= 2


async def _has_metrics(conn: Connection, run_id: str) -> bool:
    sql = "SELECT EXISTS (SELECT FROM metric_steps WHERE run_id = %(run_id)s) AS found"
    row = await fetch_one(conn, sql, run_id=run_id)
    return bool(row and row["found"])


async def _read(conn: Connection, sql: str, **values: object) -> list[Row]:
    """The rows of a statement, numbers in binary. Planned for its values: a range may hold one row or a million."""
    async with conn.cursor(binary=True) as cursor:
        await cursor.execute(sql.encode(), values, prepare=False)
        return await cursor.fetchall()


_PARTS_OF_RUN = """
    SELECT n.name, s.set_id, n.position::integer AS position
    FROM metric_sets s CROSS JOIN LATERAL unnest(s.names) WITH ORDINALITY AS n (name, position)
    WHERE s.run_id = %(run_id)s AND (%(names)s::text[] IS NULL OR n.name = ANY (%(names)s::text[]))
    ORDER BY n.name, s.set_id
"""

_PARTS = """
    WITH parts AS (
        SELECT * FROM unnest(%(ordinals)s::integer[], %(set_ids)s::integer[], %(positions)s::integer[],
                             %(widths)s::bigint[]) AS p (ordinal, set_id, position, width))
"""

# The range in pieces of at most 256 steps: whole buckets as they are rolled up, its ends rolled up here.
_BUCKETS = (
    _PARTS
    + f""",
    buckets AS (
        SELECT p.ordinal, p.width, r.bucket, r.points, r.min_value, r.min_step, r.max_value, r.max_step,
               r.non_finite_points, r.non_finite_step
        FROM parts p
        JOIN metric_rollups r ON r.run_id = %(run_id)s AND r.set_id = p.set_id AND r.position = p.position
            AND r.bucket BETWEEN %(first_bucket)s AND %(last_bucket)s AND r.points > 0
        UNION ALL
        SELECT ordinal, width, step / %(bucket_steps)s, {EXTREMES}
        FROM (SELECT p.ordinal, p.set_id, p.width, m.step, m.vals[p.position] AS value
              FROM parts p
              CROSS JOIN unnest(%(edge_lows)s::bigint[], %(edge_highs)s::bigint[]) AS e (low, high)
              JOIN metric_steps m ON m.run_id = %(run_id)s AND m.set_id = p.set_id AND m.step BETWEEN e.low AND e.high
             ) AS of_edges
        WHERE value IS NOT NULL
        GROUP BY ordinal, set_id, width, step / %(bucket_steps)s)
"""
)

_TOTALS = """
    SELECT ordinal, sum(points)::bigint AS points, min(bucket) AS first_bucket, max(bucket) AS last_bucket,
           sum(non_finite_points)::bigint AS non_finite_points
    FROM buckets GROUP BY ordinal
"""

_POINTS = """
    SELECT p.ordinal, array_agg(m.step ORDER BY m.step) AS steps,
           array_agg(m.vals[p.position] ORDER BY m.step) AS values,
           array_agg(m.time_us ORDER BY m.step) AS times_us
"""

_WHOLE = (
    _PARTS
    + _POINTS
    + """
    FROM parts p
    JOIN metric_steps m ON m.run_id = %(run_id)s AND m.set_id = p.set_id AND m.step BETWEEN %(low)s AND %(high)s
    WHERE m.vals[p.position] IS NOT NULL
    GROUP BY p.ordinal
"""
)

_FROM_BUCKETS = f""",
    groups AS (
        SELECT ordinal, {EXTREMES_OF_EXTREMES}
        FROM buckets GROUP BY ordinal, bucket * %(bucket_steps)s / width)
"""

_FROM_STEPS = (
    _PARTS
    + f""",
    groups AS (
        SELECT ordinal, {EXTREMES}
        FROM (SELECT p.ordinal, p.width, m.step, m.vals[p.position] AS value
              FROM parts p
              JOIN metric_steps m ON m.run_id = %(run_id)s AND m.set_id = p.set_id
                  AND m.step BETWEEN %(low)s AND %(high)s) AS of_steps
        WHERE value IS NOT NULL
        GROUP BY ordinal, step / width)
"""
)

_THINNED = (
    """,
    ends AS (
        SELECT p.ordinal, min(first.step) AS first, max(last.step) AS last
        FROM parts p
        CROSS JOIN LATERAL (
            SELECT m.step FROM metric_steps m
            WHERE m.run_id = %(run_id)s AND m.set_id = p.set_id AND m.step BETWEEN %(low)s AND %(high)s
                AND m.vals[p.position] IS NOT NULL
            ORDER BY m.step LIMIT 1) AS first
        CROSS JOIN LATERAL (
            SELECT m.step FROM metric_steps m
            WHERE m.run_id = %(run_id)s AND m.set_id = p.set_id AND m.step BETWEEN %(low)s AND %(high)s
                AND m.vals[p.position] IS NOT NULL
            ORDER BY m.step DESC LIMIT 1) AS last
        GROUP BY p.ordinal),
    kept AS (
        SELECT ordinal, min_step AS step FROM groups
        UNION SELECT ordinal, max_step FROM groups
        UNION SELECT ordinal, non_finite_step FROM groups
        UNION SELECT ordinal, first FROM ends
        UNION SELECT ordinal, last FROM ends)
"""
    + _POINTS
    + """
    FROM kept k
    JOIN parts p ON p.ordinal = k.ordinal
    JOIN metric_steps m ON m.run_id = %(run_id)s AND m.set_id = p.set_id AND m.step = k.step
    WHERE m.vals[p.position] IS NOT NULL
    GROUP BY p.ordinal
"""
)
