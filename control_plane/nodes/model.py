"""Trainer nodes as the control plane knows them."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True, kw_only=True)
class Node:
    """A row of `nodes`. used_slots: live jobs on it; online: heard not long ago, by the database's clock."""

    node_id: str
    name: str
    address: str
    kinds: tuple[str, ...]
    slots: int
    device: str
    version: str
    used_slots: int
    online: bool
    last_seen_time: datetime
    create_time: datetime
