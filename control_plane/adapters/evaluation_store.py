"""Evaluations of adapters in the database. They are never changed."""

from __future__ import annotations

from control_plane.adapters.model import Evaluation, NewEvaluation
from control_plane.db.connection import (
    Connection,
    Row,
    execute,
    fetch_all,
    fetch_one,
    json_column,
    messages_column,
    read_messages,
)
from tunesmith.v1 import adapter_pb2


async def get(conn: Connection, evaluation_id: str) -> Evaluation:
    """One evaluation, of which it is known that it is there."""
    row = await fetch_one(conn, "SELECT * FROM adapter_evaluations WHERE evaluation_id = %(id)s", id=evaluation_id)
    assert row is not None, "evaluations are never deleted"
    return _evaluation(row)


async def page(
    conn: Connection, *, adapter_id: str | None = None, after: str | None = None, limit: int
) -> list[Evaluation]:
    """At most `limit` evaluations, newest first, beginning after the id `after`. adapter_id: only of this one."""
    sql = """
        SELECT * FROM adapter_evaluations
        WHERE (%(adapter_id)s::text IS NULL OR adapter_id = %(adapter_id)s)
          AND (%(after)s::text IS NULL OR evaluation_id < %(after)s)
        ORDER BY evaluation_id DESC LIMIT %(limit)s
    """
    rows = await fetch_all(conn, sql, adapter_id=adapter_id or None, after=after, limit=limit)
    return [_evaluation(row) for row in rows]


async def insert(conn: Connection, evaluation_id: str, new: NewEvaluation) -> None:
    """Store an evaluation of an adapter and of runs that are there."""
    sql = """
        INSERT INTO adapter_evaluations (evaluation_id, adapter_id, scorer, wish, before_run_id, after_run_id, measures)
        VALUES (%(evaluation_id)s, %(adapter_id)s, %(scorer)s, %(wish)s, %(before_run_id)s, %(after_run_id)s,
                %(measures)s)
    """
    await execute(
        conn,
        sql,
        evaluation_id=evaluation_id,
        adapter_id=new.adapter_id,
        scorer=new.scorer,
        wish=json_column(new.wish),
        before_run_id=new.before_run_id,
        after_run_id=new.after_run_id,
        measures=messages_column(new.measures),
    )


def _evaluation(row: Row) -> Evaluation:
    return Evaluation(**{**row, "measures": read_messages(adapter_pb2.Measure, row["measures"])})
