"""`tunesmith up` and `tunesmith control-plane`: the services in the foreground."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from services.cli.commands import LocalCommand, session_of
from services.cli.service_options import control_plane_flags, service_options


@click.command(cls=LocalCommand)
@click.option(
    "--data-dir",
    type=click.Path(file_okay=False, path_type=Path),
    help="Everything that is kept: postgres, blobs, node, models. [default: tunesmith-data]",
)
@click.option("--listen", metavar="HOST:PORT", help="Of the control plane. [default: 127.0.0.1:7460]")
@click.option("--node-listen", metavar="HOST:PORT", help="Of the trainer node. [default: 127.0.0.1:7461]")
@click.option(
    "--models-dir",
    type=click.Path(file_okay=False, path_type=Path),
    help="Base models as folders, found by name. [default: models in the data folder]",
)
@click.option("--slots", type=click.IntRange(1, 64), help="Trainings at a time. [default: 1]")
@click.option("--device", help="Such as cpu or cuda:0; the first GPU where not given, else the CPU.")
@click.option("--until-stdin-closes", is_flag=True, hidden=True)
@click.pass_context
def up(ctx: click.Context, /, until_stdin_closes: bool, **flags: Any) -> None:
    """Run everything on this machine: embedded Postgres, control plane and one trainer node.

    Stays in the foreground; Ctrl-C stops it, and the next start goes on with the same data. Trainings that are running
    outlive it and are taken up again. Each flag is also TUNESMITH_LOCAL_<FLAG>.

    Exit codes: 2 a setting is wrong or the port is taken, 9 the data folder cannot be used.
    """
    from services.cli.run_service import run_local

    run_local(session_of(ctx), flags, until_stdin_closes=until_stdin_closes)


@click.command("control-plane", cls=LocalCommand)
@service_options
@control_plane_flags
@click.pass_context
def control_plane(ctx: click.Context, /, config: Path | None, **flags: Any) -> None:
    """Run the control plane alone, in the foreground.

    Settings come from --config FILE (TOML), above it TUNESMITH_<TABLE>_<KEY>, above that the flags. Without a DSN it
    runs a Postgres of its own. Ctrl-C stops it; trainings go on and are taken up again by the next start.

    Exit codes: 2 a setting is wrong or the port is taken, 9 the data folder or the database cannot be used.
    """
    from services.cli.run_service import run_control_plane

    run_control_plane(session_of(ctx), config, flags)
