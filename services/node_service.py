"""NodeService: unpack, one call, pack."""

from __future__ import annotations

from control_plane.db.pool import Database
from control_plane.nodes import commands, store
from services.convert.nodes import node_message
from services.rpc.calls import Context
from services.rpc.paging import cursor
from tunesmith.v1 import node_pb2, node_pb2_grpc

REGISTER_EVERY_S = 5.0  # a third of the silence after which a node counts as offline: two calls may be lost


class NodeService(node_pb2_grpc.NodeServiceServicer):
    """Trainer nodes as the control plane knows them. What each RPC promises stands in node.proto."""

    def __init__(self, db: Database) -> None:
        self._db = db

    async def RegisterNode(
        self, request: node_pb2.RegisterNodeRequest, context: Context
    ) -> node_pb2.RegisterNodeResponse:
        """Join, or be there again."""
        given = request.node
        node = await commands.register_node(
            self._db,
            name=given.name,
            address=given.address,
            kinds=tuple(given.kinds),
            slots=given.slots,
            device=given.device,
            version=given.version,
        )
        return node_pb2.RegisterNodeResponse(node=node_message(node), next_register_s=REGISTER_EVERY_S)

    async def GetNode(self, request: node_pb2.GetNodeRequest, context: Context) -> node_pb2.GetNodeResponse:
        """Read one."""
        async with self._db.connection() as conn:
            node = await store.get(conn, request.node_id)
        return node_pb2.GetNodeResponse(node=node_message(node))

    async def ListNodes(self, request: node_pb2.ListNodesRequest, context: Context) -> node_pb2.ListNodesResponse:
        """Read a page, newest first."""
        page = cursor(request)
        async with self._db.connection() as conn:
            found = await store.page(
                conn, name=request.name, id_prefix=request.id_prefix, after=page.after, limit=page.limit
            )
        shown, token = page.cut(found, node_message, lambda node: node.node_id)
        return node_pb2.ListNodesResponse(nodes=shown, next_page_token=token)
