"""`tunesmith model list|get|report|label|download`: the language models that runs have made."""

from __future__ import annotations

from pathlib import Path

import click

from services.cli.commands import ClientCommand, session_of
from services.cli.completion import EXPERIMENTS, MODELS
from services.cli.labels import changed, labels_of
from services.cli.listing import limit_options, show_list
from services.cli.lm_use import command_to_try
from services.cli.output import Column

COLUMNS = (
    Column("model_id", lambda one: one.model_id),
    Column("name", lambda one: f"{one.name}@{one.version}"),
    Column("best_loss", lambda one: one.best_loss),
    Column("final_loss", lambda one: one.final_loss),
    Column("run_id", lambda one: one.run_id),
    Column("create_time", lambda one: one.create_time),
    Column("experiment_id", lambda one: one.experiment_id, wide=True),
)

_MODEL = click.argument("model", shell_complete=MODELS)


@click.command("list", cls=ClientCommand)
@click.option("--experiment", default="", shell_complete=EXPERIMENTS, help="Only of this experiment.")
@click.option("--name", default="", help="Only with this name.")
@limit_options
@click.pass_context
def list_(ctx: click.Context, experiment: str, name: str, limit: int, every: bool) -> None:
    """List language models, newest first. Losses are nats a token; best_loss is that of the held-out text."""
    from tunesmith.client.names import resolve_experiment
    from tunesmith.v1 import model_pb2

    session = session_of(ctx)
    with session.client() as client:
        request = model_pb2.ListModelsRequest(name=name)
        if experiment:
            request.experiment_id = resolve_experiment(client, experiment)
        show_list(session, client.models.ListModels, request, COLUMNS, limit=limit, every=every)


@click.command(cls=ClientCommand)
@_MODEL
@click.pass_context
def get(ctx: click.Context, model: str) -> None:
    """Show one language model, with everything that decided its training."""
    from tunesmith.client.names import resolve_model
    from tunesmith.v1 import model_pb2

    session = session_of(ctx)
    with session.client() as client:
        response = client.models.GetModel(model_pb2.GetModelRequest(model_id=resolve_model(client, model)))
    session.out.response(response, response.model)


@click.command(cls=ClientCommand)
@_MODEL
@click.pass_context
def report(ctx: click.Context, model: str) -> None:
    """Print the report of the run that made a language model, as Markdown; with -o json the response."""
    from tunesmith.client.names import resolve_model
    from tunesmith.v1 import model_pb2

    session = session_of(ctx)
    with session.client() as client:
        request = model_pb2.GetModelReportRequest(model_id=resolve_model(client, model))
        response = client.models.GetModelReport(request)
    session.out.report(response)


@click.command(cls=ClientCommand)
@_MODEL
@click.argument("folder", required=False, type=click.Path(file_okay=False, path_type=Path))
@click.pass_context
def download(ctx: click.Context, model: str, folder: Path | None) -> None:
    """Read a language model with its tokenizer into FOLDER (default: ./NAME-vVERSION).

    `tunesmith lm sample`, `lm eval` and `lm tokenizer` take the folder. Every file is checked by SHA-256 and is either
    whole or not there; an interrupted download goes on where it stopped.
    """
    from tunesmith.client.names import resolve_model
    from tunesmith.client.transfer import pull_model
    from tunesmith.v1 import model_pb2

    session = session_of(ctx)
    with session.client() as client:
        response = client.models.GetModel(model_pb2.GetModelRequest(model_id=resolve_model(client, model)))
        found = response.model
        target = folder or Path(f"{found.name}-v{found.version}")
        pulled = pull_model(client, found, target)
    if session.out.format == "table":
        for path in pulled:
            session.out.line(str(path))
    else:
        session.out.response(response)
    session.out.note(f"next: {command_to_try(str(target))}")


@click.command(cls=ClientCommand)
@_MODEL
@click.argument("pairs", metavar="KEY=VALUE…", nargs=-1, required=True)
@click.pass_context
def label(ctx: click.Context, model: str, pairs: tuple[str, ...]) -> None:
    """Set labels of a language model; KEY= takes one away. The other labels stay.

    Exit code 4: somebody else changed it meanwhile.
    """
    from tunesmith.client.names import resolve_model
    from tunesmith.v1 import model_pb2

    session = session_of(ctx)
    given = labels_of(pairs)
    with session.client() as client:
        request = model_pb2.GetModelRequest(model_id=resolve_model(client, model))
        found = client.models.GetModel(request).model
        update = model_pb2.UpdateModelRequest(
            model=model_pb2.Model(model_id=found.model_id, etag=found.etag, labels=changed(dict(found.labels), given))
        )
        update.update_mask.paths.append("labels")
        response = client.models.UpdateModel(update)
    session.out.response(response, response.model)
    session.out.note(f"labels of {response.model.name}@{response.model.version} changed")
