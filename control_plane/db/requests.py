"""Answers of Create and Resume calls, so that repeating one has no second effect.

The answer is written in the transaction of its effect. A lock on (method, request id) lasts as long as that
transaction: of two repeats at once one waits, and then finds the answer of the other.
"""

from __future__ import annotations

from dataclasses import dataclass

from control_plane.db.connection import Connection, execute, fetch_one
from control_plane.errors import RequestIdReused


@dataclass(frozen=True, kw_only=True)
class Request:
    """A call that may be repeated. body_digest: SHA-256 of the message without its request id."""

    method: str
    request_id: str
    body_digest: str


async def replay(conn: Connection, request: Request | None) -> str | None:
    """The id that the first call of this request made, or None where this is the first.

    Takes the request's lock until the transaction ends. Raises RequestIdReused for another body.
    """
    if request is None:
        return None
    lock = "SELECT pg_advisory_xact_lock(hashtextextended(%(key)s, 0))"
    await execute(conn, lock, key=f"request {request.method} {request.request_id}")
    return await find(conn, request)


async def find(conn: Connection, request: Request | None) -> str | None:
    """Like `replay` without the lock: for looking before work that costs."""
    if request is None:
        return None
    sql = "SELECT body_digest, response FROM requests WHERE method = %(method)s AND request_id = %(request_id)s"
    row = await fetch_one(conn, sql, method=request.method, request_id=request.request_id)
    if row is None:
        return None
    if row["body_digest"] != request.body_digest:
        raise RequestIdReused(
            f"request_id {request.request_id} was used for another {request.method} within 24 h; use a new one",
            request_id=request.request_id,
            method=request.method,
        )
    return bytes(row["response"]).decode()


async def remember(conn: Connection, request: Request | None, created_id: str) -> None:
    """Store what the call made, in the transaction that makes it."""
    if request is None:
        return
    sql = """
        INSERT INTO requests (method, request_id, body_digest, response)
        VALUES (%(method)s, %(request_id)s, %(body_digest)s, %(response)s)
    """
    await execute(
        conn,
        sql,
        method=request.method,
        request_id=request.request_id,
        body_digest=request.body_digest,
        response=created_id.encode(),
    )


async def forget(conn: Connection, *, older_than_hours: float, limit: int) -> int:
    """Delete at most `limit` answers that are older; how many there were. Safe to run in several places at once."""
    sql = """
        DELETE FROM requests WHERE ctid = ANY (ARRAY(
            SELECT ctid FROM requests WHERE create_time < now() - %(hours)s * interval '1 hour'
            ORDER BY create_time LIMIT %(limit)s FOR UPDATE SKIP LOCKED))
    """
    return await execute(conn, sql, hours=older_than_hours, limit=limit)
