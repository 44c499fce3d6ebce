"""`tunesmith version`."""

from __future__ import annotations

from importlib.metadata import version as installed_version

import click

from services.cli.commands import ClientCommand, session_of


@click.command(cls=ClientCommand)
@click.pass_context
def version(ctx: click.Context) -> None:
    """Print the version of this program, and that of the control plane where one answers.

    With -o json, the response of GetServerInfo; that needs a control plane.
    """
    from tunesmith.client.errors import ApiError
    from tunesmith.v1 import server_pb2

    session = session_of(ctx)
    session.timeout_s = session.timeout_s or 2.0
    if session.out.format == "table":
        session.out.pairs([("tunesmith", installed_version("tunesmith"))])
    try:
        with session.client() as client:
            session.out.response(client.server.GetServerInfo(server_pb2.GetServerInfoRequest()))
    except ApiError as error:
        if session.out.format != "table" or error.code not in ("UNAVAILABLE", "DEADLINE_EXCEEDED"):
            raise
        session.out.note(f"no control plane answers at {session.server}")
