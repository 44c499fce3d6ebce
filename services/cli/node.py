"""`tunesmith node`: run a trainer node; list and get those that the control plane knows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from services.cli.commands import LazyGroup, session_of
from services.cli.completion import NODES
from services.cli.listing import limit_options, show_list
from services.cli.output import Column, enum_text
from services.cli.service_options import node_flags, service_options

COLUMNS = (
    Column("node_id", lambda node: node.node_id),
    Column("name", lambda node: node.name),
    Column("state", lambda node: enum_text(node, "state")),
    Column("slots", lambda node: f"{node.used_slots}/{node.slots}"),
    Column("kinds", lambda node: ",".join(node.kinds)),
    Column("device", lambda node: node.device),
    Column("address", lambda node: node.address),
    Column("last_seen_time", lambda node: node.last_seen_time),
    Column("version", lambda node: node.version, wide=True),
)


@click.group(cls=LazyGroup, invoke_without_command=True)
@service_options
@node_flags
@click.pass_context
def node(ctx: click.Context, /, config: Path | None, **flags: Any) -> int:
    """Run a trainer node in the foreground; with `list` or `get`, ask the control plane about its nodes.

    Settings come from --config FILE (TOML, table [node]), above it TUNESMITH_NODE_…, above that the flags. Ctrl-C
    stops the service; trainings go on and are taken up again by the next start.
    """
    if ctx.invoked_subcommand is not None:
        return 0
    from services.cli.run_service import run_node

    run_node(session_of(ctx), config, flags)
    return 0


@node.command("list")
@limit_options
@click.pass_context
def list_(ctx: click.Context, limit: int, every: bool) -> None:
    """List the nodes that the control plane knows, newest first."""
    from tunesmith.v1 import node_pb2

    session = session_of(ctx)
    with session.client() as client:
        show_list(session, client.nodes.ListNodes, node_pb2.ListNodesRequest(), COLUMNS, limit=limit, every=every)


@node.command()
@click.argument("node", shell_complete=NODES)
@click.pass_context
def get(ctx: click.Context, node: str) -> None:
    """Show one node, named by id, prefix or name."""
    from tunesmith.client.names import resolve_node
    from tunesmith.v1 import node_pb2

    session = session_of(ctx)
    with session.client() as client:
        response = client.nodes.GetNode(node_pb2.GetNodeRequest(node_id=resolve_node(client, node)))
    session.out.response(response, response.node)
