"""Trainer nodes as messages."""

from __future__ import annotations

from control_plane.nodes.model import Node
from services.convert.times import timestamp
from tunesmith.v1 import node_pb2


def node_message(node: Node) -> node_pb2.Node:
    """The node as clients see it."""
    return node_pb2.Node(
        node_id=node.node_id,
        name=node.name,
        address=node.address,
        kinds=node.kinds,
        slots=node.slots,
        device=node.device,
        version=node.version,
        state=node_pb2.NODE_STATE_ONLINE if node.online else node_pb2.NODE_STATE_OFFLINE,
        used_slots=node.used_slots,
        last_seen_time=timestamp(node.last_seen_time),
        create_time=timestamp(node.create_time),
    )
