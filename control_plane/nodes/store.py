"""Trainer nodes in the database."""

from __future__ import annotations

from collections.abc import Sequence

from control_plane.db.connection import Connection, Row, fetch_all, fetch_one
from control_plane.errors import NodeNotFound
from control_plane.nodes.model import Node

SILENCE_S = 15.0  # a node unheard for longer is offline


async def get(conn: Connection, node_id: str, *, silence_s: float = SILENCE_S) -> Node:
    """One node. Raises NodeNotFound."""
    sql = """
        SELECT n.*, last_seen_time > now() - %(silence_s)s * interval '1 second' AS online,
               (SELECT count(*) FROM jobs j WHERE j.node_id = n.node_id AND j.end_time IS NULL) AS used_slots
        FROM nodes n WHERE node_id = %(id)s
    """
    row = await fetch_one(conn, sql, id=node_id, silence_s=silence_s)
    if row is None:
        raise NodeNotFound(f"there is no node {node_id}; list them with ListNodes", node_id=node_id)
    return _node(row)


async def page(
    conn: Connection,
    *,
    name: str = "",
    id_prefix: str = "",
    after: str | None = None,
    limit: int,
    silence_s: float = SILENCE_S,
) -> list[Node]:
    """At most `limit` nodes, newest first, beginning after the id `after`."""
    sql = """
        SELECT n.*, last_seen_time > now() - %(silence_s)s * interval '1 second' AS online,
               (SELECT count(*) FROM jobs j WHERE j.node_id = n.node_id AND j.end_time IS NULL) AS used_slots
        FROM nodes n
        WHERE (%(name)s = '' OR name = %(name)s) AND starts_with(node_id, %(id_prefix)s)
          AND (%(after)s::text IS NULL OR node_id < %(after)s)
        ORDER BY node_id DESC LIMIT %(limit)s
    """
    rows = await fetch_all(conn, sql, name=name, id_prefix=id_prefix, after=after, limit=limit, silence_s=silence_s)
    return [_node(row) for row in rows]


async def online(conn: Connection, *, silence_s: float) -> list[Node]:
    """Every node that was heard within `silence_s`."""
    sql = """
        SELECT n.*, true AS online,
               (SELECT count(*) FROM jobs j WHERE j.node_id = n.node_id AND j.end_time IS NULL) AS used_slots
        FROM nodes n WHERE last_seen_time > now() - %(silence_s)s * interval '1 second' ORDER BY node_id
    """
    return [_node(row) for row in await fetch_all(conn, sql, silence_s=silence_s)]


async def offered_kinds(conn: Connection) -> list[str] | None:
    """Kinds of training that some known node runs, online or not; None where no node is known."""
    sql = """
        SELECT count(*) AS nodes, coalesce(array_agg(DISTINCT kind ORDER BY kind) FILTER (WHERE kind IS NOT NULL), '{}')
            AS kinds
        FROM nodes LEFT JOIN LATERAL unnest(kinds) AS kind ON true
    """
    row = await fetch_one(conn, sql)
    return list(row["kinds"]) if row and row["nodes"] else None


async def lock(conn: Connection, node_id: str) -> bool:
    """Take a node until the transaction ends; False where another has it, or there is none."""
    sql = "SELECT node_id FROM nodes WHERE node_id = %(id)s FOR NO KEY UPDATE SKIP LOCKED"
    return await fetch_one(conn, sql, id=node_id) is not None


async def upsert(
    conn: Connection,
    *,
    new_node_id: str,
    name: str,
    address: str,
    kinds: Sequence[str],
    slots: int,
    device: str,
    version: str,
    silence_s: float,
) -> tuple[str, bool]:
    """Store the node of this name as heard now; its id, and whether it offers something new or was silent before."""
    sql = """
        WITH before AS (
            SELECT kinds, slots, last_seen_time FROM nodes WHERE name = %(name)s)
        INSERT INTO nodes AS known (node_id, name, address, kinds, slots, device, version)
        VALUES (%(node_id)s, %(name)s, %(address)s, %(kinds)s, %(slots)s, %(device)s, %(version)s)
        ON CONFLICT (name) DO UPDATE
        SET address = excluded.address, kinds = excluded.kinds, slots = excluded.slots, device = excluded.device,
            version = excluded.version, last_seen_time = now()
        RETURNING node_id, NOT EXISTS (
            SELECT 1 FROM before
            WHERE before.kinds = known.kinds AND before.slots = known.slots
              AND before.last_seen_time > now() - %(silence_s)s * interval '1 second') AS joined
    """
    row = await fetch_one(
        conn,
        sql,
        node_id=new_node_id,
        name=name,
        address=address,
        kinds=list(kinds),
        slots=slots,
        device=device,
        version=version,
        silence_s=silence_s,
    )
    assert row is not None, "an upsert returns its row"
    return row["node_id"], row["joined"]


def _node(row: Row) -> Node:
    return Node(**{**row, "kinds": tuple(row["kinds"])})
