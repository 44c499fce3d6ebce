"""`tunesmith adapter`: what runs have trained."""

from __future__ import annotations

from pathlib import Path

import click

from services.cli.adapter_evaluate import evaluate, evaluations
from services.cli.adapter_export import export, lineage
from services.cli.commands import LazyGroup, session_of
from services.cli.completion import ADAPTERS, EXPERIMENTS
from services.cli.labels import changed, labels_of
from services.cli.listing import limit_options, show_list
from services.cli.output import Column

COLUMNS = (
    Column("adapter_id", lambda one: one.adapter_id),
    Column("name", lambda one: f"{one.name}@{one.version}"),
    Column("base_model", lambda one: one.base_model),
    Column("final_loss", lambda one: one.final_loss),
    Column("run_id", lambda one: one.run_id),
    Column("create_time", lambda one: one.create_time),
    Column("start_adapter_id", lambda one: one.start_adapter_id, wide=True),
    Column("dataset_version_id", lambda one: one.dataset_version_id, wide=True),
)


@click.group(cls=LazyGroup)
def adapter() -> None:
    """List, label, pull, export and evaluate what runs have trained.

    ADAPTER is an id, a prefix, `name@version` or a name.
    """


adapter.add_command(export)
adapter.add_command(lineage)
adapter.add_command(evaluate)
adapter.add_command(evaluations)


@adapter.command("list")
@click.option("--experiment", default="", shell_complete=EXPERIMENTS, help="Only of this experiment.")
@click.option("--name", default="", help="Only with this name.")
@click.option(
    "--start-adapter", default="", shell_complete=ADAPTERS, help="Only those that were trained from this one."
)
@limit_options
@click.pass_context
def list_(ctx: click.Context, experiment: str, name: str, start_adapter: str, limit: int, every: bool) -> None:
    """List adapters, newest first."""
    from tunesmith.client.names import resolve_adapter, resolve_experiment
    from tunesmith.v1 import adapter_pb2

    session = session_of(ctx)
    with session.client() as client:
        request = adapter_pb2.ListAdaptersRequest(name=name)
        if experiment:
            request.experiment_id = resolve_experiment(client, experiment)
        if start_adapter:
            request.start_adapter_id = resolve_adapter(client, start_adapter)
        show_list(session, client.adapters.ListAdapters, request, COLUMNS, limit=limit, every=every)


@adapter.command()
@click.argument("adapter", shell_complete=ADAPTERS)
@click.pass_context
def get(ctx: click.Context, adapter: str) -> None:
    """Show one adapter, with everything that decided its training."""
    from tunesmith.client.names import resolve_adapter
    from tunesmith.v1 import adapter_pb2

    session = session_of(ctx)
    with session.client() as client:
        request = adapter_pb2.GetAdapterRequest(adapter_id=resolve_adapter(client, adapter))
        response = client.adapters.GetAdapter(request)
    session.out.response(response, response.adapter)


@adapter.command()
@click.argument("adapter", shell_complete=ADAPTERS)
@click.pass_context
def report(ctx: click.Context, adapter: str) -> None:
    """Print the report of the run that made an adapter, and what was heard of it since, as Markdown.

    With -o json the response.
    """
    from tunesmith.client.names import resolve_adapter
    from tunesmith.v1 import adapter_pb2

    session = session_of(ctx)
    with session.client() as client:
        request = adapter_pb2.GetAdapterReportRequest(adapter_id=resolve_adapter(client, adapter))
        response = client.adapters.GetAdapterReport(request)
    session.out.report(response)


@adapter.command()
@click.argument("adapter", shell_complete=ADAPTERS)
@click.argument("pairs", metavar="KEY=VALUE…", nargs=-1, required=True)
@click.pass_context
def label(ctx: click.Context, adapter: str, pairs: tuple[str, ...]) -> None:
    """Set labels of an adapter; KEY= takes one away. The other labels stay.

    Exit code 4: somebody else changed it meanwhile.
    """
    from tunesmith.client.names import resolve_adapter
    from tunesmith.v1 import adapter_pb2

    session = session_of(ctx)
    given = labels_of(pairs)
    with session.client() as client:
        request = adapter_pb2.GetAdapterRequest(adapter_id=resolve_adapter(client, adapter))
        found = client.adapters.GetAdapter(request).adapter
        update = adapter_pb2.UpdateAdapterRequest(
            adapter=adapter_pb2.Adapter(
                adapter_id=found.adapter_id, etag=found.etag, labels=changed(dict(found.labels), given)
            )
        )
        update.update_mask.paths.append("labels")
        response = client.adapters.UpdateAdapter(update)
    session.out.response(response, response.adapter)
    session.out.note(f"labels of {response.adapter.name}@{response.adapter.version} changed")


@adapter.command()
@click.argument("adapter", shell_complete=ADAPTERS)
@click.argument("folder", required=False, type=click.Path(file_okay=False, path_type=Path))
@click.pass_context
def pull(ctx: click.Context, adapter: str, folder: Path | None) -> None:
    """Read an adapter's PEFT folder into FOLDER (default: ./NAME-vVERSION).

    Every file is checked by SHA-256 and is either whole or not there; an interrupted pull goes on where it stopped.
    """
    from tunesmith.client.names import resolve_adapter
    from tunesmith.client.transfer import pull_adapter
    from tunesmith.v1 import adapter_pb2

    session = session_of(ctx)
    with session.client() as client:
        request = adapter_pb2.GetAdapterRequest(adapter_id=resolve_adapter(client, adapter))
        response = client.adapters.GetAdapter(request)
        found = response.adapter
        target = folder or Path(f"{found.name}-v{found.version}")
        pulled = pull_adapter(client, found, target)
    if session.out.format == "table":
        for path in pulled:
            session.out.line(str(path))
    else:
        session.out.response(response)
    session.out.note(f"{target / 'README.md'} shows how to load it")
