"""Reading telemetry in the order it arrived: for watches, and for pages of a log.

A place is the event that carried a row, and the row in it. One job writes its events in order, under the lock of its
run (`store.lock_job`), so nothing ever becomes visible before a place that was read: a reader that goes on from its
last place misses nothing and repeats nothing. A row that a later attempt replaces moves to that attempt's place.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby

from control_plane.db.connection import Connection, Row, fetch_all, fetch_one
from control_plane.telemetry.model import (
    FRAME_BYTES,
    FRAME_ROWS,
    MAX_STEP,
    LogCursor,
    LogLine,
    MetricBlock,
    MetricCursor,
    MetricRows,
)


async def read_metrics(
    conn: Connection, *, run_id: str, names: Sequence[str], min_step: int, after: MetricCursor
) -> tuple[MetricCursor, MetricRows | None]:
    """The next rows after a place, of one attempt and at most a frame, and the place behind them.

    names: only these metrics, all where empty. With None there is nothing more now; the place may have moved over rows
    that were not asked for.
    """
    head = await _head(conn, run_id)
    if head <= after:
        return after, None
    sets = await _sets(conn, run_id, names)
    widest = max((len(found) for found in sets.values()), default=0)
    limit = max(1, min(FRAME_ROWS, FRAME_BYTES // (16 + 8 * widest)))
    sql = b"""
        SELECT attempt, seq, set_id, step, time_us, vals
        FROM metric_steps
        WHERE run_id = %(run_id)s AND set_id = ANY (%(set_ids)s) AND step >= %(min_step)s
          AND (attempt, seq, step) > (%(attempt)s, %(seq)s, %(step)s)
          AND (attempt, seq) <= (%(head_attempt)s, %(head_seq)s)
        ORDER BY attempt, seq, step LIMIT %(limit)s
    """
    values = {"run_id": run_id, "set_ids": list(sets), "min_step": min_step, "limit": limit, **after._asdict()}
    # Planned for its values: the rest of a run may be one row or a million.
    async with conn.cursor(binary=True) as cursor:
        await cursor.execute(sql, {**values, "head_attempt": head.attempt, "head_seq": head.seq}, prepare=False)
        rows = await cursor.fetchall()
    if not rows:
        return head, None
    attempt = rows[0]["attempt"]
    of_attempt = [row for row in rows if row["attempt"] == attempt]
    last = of_attempt[-1]
    through = len(rows) < limit and len(of_attempt) == len(rows)
    place = head if through else MetricCursor(attempt, last["seq"], last["step"])
    blocks = list(_blocks(of_attempt, sets))
    return place, MetricRows(attempt=attempt, blocks=blocks) if blocks else None


async def read_lines(
    conn: Connection,
    *,
    run_id: str,
    after: LogCursor,
    limit: int = FRAME_ROWS,
    max_bytes: int = FRAME_BYTES,
    stream: int = 0,
    contains: str = "",
) -> list[LogLine]:
    """The next lines after a place, oldest first, at most `limit` and about `max_bytes`.

    stream: only of this LogStream, of each where 0; contains: only lines that hold this text.
    """
    sql = """
        SELECT attempt, rank, seq, line, time_us, stream, text
        FROM (SELECT *, sum(octet_length(text) + 24) OVER (ORDER BY attempt, rank, seq, line) - octet_length(text)
                  AS bytes_before
              FROM (SELECT attempt, rank, seq, line, time_us, stream, text FROM log_lines
                    WHERE run_id = %(run_id)s
                      AND (attempt, rank, seq, line) > (%(attempt)s, %(rank)s, %(seq)s, %(line)s)
                      AND (%(only)s = 0 OR stream = %(only)s)
                      AND (%(contains)s = '' OR strpos(text, %(contains)s) > 0)
                    ORDER BY attempt, rank, seq, line LIMIT %(limit)s) AS next) AS sized
        WHERE bytes_before <= %(max_bytes)s
        ORDER BY attempt, rank, seq, line
    """
    values = {"only": stream, "contains": contains, "limit": limit, "max_bytes": max_bytes, **after._asdict()}
    return [_line(row) for row in await fetch_all(conn, sql, run_id=run_id, **values)]


async def _head(conn: Connection, run_id: str) -> MetricCursor:
    """The place behind the last row. Read before the rows: what arrives between the two lies behind it."""
    sql = """
        SELECT attempt, seq FROM metric_steps WHERE run_id = %(run_id)s ORDER BY attempt DESC, seq DESC LIMIT 1
    """
    row = await fetch_one(conn, sql, run_id=run_id)
    return MetricCursor(row["attempt"], row["seq"], MAX_STEP) if row else MetricCursor()


async def _sets(conn: Connection, run_id: str, names: Sequence[str]) -> dict[int, list[tuple[int, str]]]:
    """Of each set of the run the metrics that are asked for, with their positions from 0."""
    sql = """
        SELECT set_id, names FROM metric_sets
        WHERE run_id = %(run_id)s AND (%(all)s OR names && %(names)s::text[])
    """
    rows = await fetch_all(conn, sql, run_id=run_id, names=list(names), all=not names)
    asked = set(names)
    return {
        row["set_id"]: [(at, name) for at, name in enumerate(row["names"]) if not asked or name in asked]
        for row in rows
    }


def _blocks(rows: Sequence[Row], sets: dict[int, list[tuple[int, str]]]) -> Iterator[MetricBlock]:
    """Rows in order, those beside each other with the same metrics as one block. A null was superseded: left out."""

    def metrics(row: Row) -> tuple[tuple[int, str], ...]:
        return tuple((at, name) for at, name in sets[row["set_id"]] if row["vals"][at] is not None)

    for wanted, group in groupby(rows, key=metrics):
        if wanted:
            same = list(group)
            yield MetricBlock(
                seq=same[0]["seq"],
                names=tuple(name for _, name in wanted),
                steps=[row["step"] for row in same],
                times_us=[row["time_us"] for row in same],
                values=[row["vals"][at] for row in same for at, _ in wanted],
            )


def _line(row: Row) -> LogLine:
    place = LogCursor(row["attempt"], row["rank"], row["seq"], row["line"])
    return LogLine(cursor=place, time_us=row["time_us"], stream=row["stream"], text=row["text"])
