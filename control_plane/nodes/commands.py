"""Writes to nodes, each in one transaction."""

from __future__ import annotations

from collections.abc import Sequence

from control_plane.db.notify import QUEUE, notify
from control_plane.db.pool import Database
from control_plane.ids import new_id
from control_plane.nodes import store
from control_plane.nodes.model import Node


async def register_node(
    db: Database,
    *,
    name: str,
    address: str,
    kinds: Sequence[str],
    slots: int,
    device: str = "",
    version: str = "",
    silence_s: float = store.SILENCE_S,
) -> Node:
    """Let a node join, or hear it again: the name identifies it, and it keeps its id.

    Dispatch is woken where the node brings something: it is new, was silent, or offers other kinds or slots.
    """
    async with db.transaction() as conn:
        node_id, joined = await store.upsert(
            conn,
            new_node_id=new_id("nod"),
            name=name,
            address=address,
            kinds=sorted(set(kinds)),
            slots=slots,
            device=device,
            version=version,
            silence_s=silence_s,
        )
        if joined:
            await notify(conn, QUEUE)
        return await store.get(conn, node_id, silence_s=silence_s)
