"""`tunesmith experiment`: what runs are grouped by."""

from __future__ import annotations

from pathlib import Path

import click

from services.cli import lm_submit
from services.cli.adapters_of_runs import settle_adapter
from services.cli.commands import LazyGroup, session_of
from services.cli.completion import DATASETS, EXPERIMENTS
from services.cli.labels import changed, label_option, labels_of
from services.cli.listing import limit_options, show_list
from services.cli.output import Column
from services.cli.settings_input import read_mapping, set_option, spec_of, training_type_option

COLUMNS = (
    Column("experiment_id", lambda one: one.experiment_id),
    Column("name", lambda one: one.name),
    Column("dataset_id", lambda one: one.dataset_id),
    Column("description", lambda one: one.description),
    Column("create_time", lambda one: one.create_time),
)

_settings_file = click.option(
    "--settings",
    "file",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="YAML with the settings that its runs start from, such as `training_type: ranking, training: {epochs: 3}`; "
    "for tiny_lm its corpus_path, too, relative to the file.",
)


@click.group(cls=LazyGroup)
def experiment() -> None:
    """Group runs: a question, the data it is asked of, and the settings its runs start from."""


@experiment.command()
@click.argument("name")
@click.option("--description", default="", help="What it is about.")
@click.option("--dataset", default="", shell_complete=DATASETS, help="Data set that its runs use, by name or id.")
@_settings_file
@training_type_option
@set_option
@label_option
@click.pass_context
def create(
    ctx: click.Context,
    name: str,
    description: str,
    dataset: str,
    file: Path | None,
    training_type: str | None,
    assignments: tuple[str, ...],
    labels: tuple[str, ...],
) -> None:
    """Create an experiment.

    Exit codes: 2 a setting is unknown or out of range, 3 no such data set, 4 the name is taken.
    """
    from tunesmith import spec
    from tunesmith.client.names import resolve_dataset
    from tunesmith.v1 import experiment_pb2

    session = session_of(ctx)
    wanted = experiment_pb2.Experiment(name=name, description=description, labels=labels_of(labels))
    mapping, texts = lm_submit.below_its_kind(read_mapping(file), training_type, file=file, note=session.out.note)
    if file or training_type or assignments:
        wanted.default_spec.CopyFrom(spec_of(mapping, assignments))
    with session.client() as client:
        settle_adapter(client, wanted.default_spec)
        lm_submit.settle_corpus(client, wanted.default_spec, texts)
        if dataset:
            wanted.dataset_id = resolve_dataset(client, dataset)
        response = client.experiments.CreateExperiment(experiment_pb2.CreateExperimentRequest(experiment=wanted))
    session.out.response(response, response.experiment)
    match spec.kind_of(wanted.default_spec):
        case "tiny_lm":
            needed = "" if texts else " --corpus-path TEXTS"
        case "generate":
            needed = " --base-model facebook/musicgen-small --prompts-file PROMPTS"
        case _:
            needed = " --base-model facebook/musicgen-small"
    session.out.note(f"next: tunesmith run submit --experiment {name}{needed}")


@experiment.command("list")
@limit_options
@click.pass_context
def list_(ctx: click.Context, limit: int, every: bool) -> None:
    """List experiments, newest first."""
    from tunesmith.v1 import experiment_pb2

    session = session_of(ctx)
    with session.client() as client:
        request = experiment_pb2.ListExperimentsRequest()
        show_list(session, client.experiments.ListExperiments, request, COLUMNS, limit=limit, every=every)


@experiment.command()
@click.argument("experiment", shell_complete=EXPERIMENTS)
@click.pass_context
def get(ctx: click.Context, experiment: str) -> None:
    """Show one experiment, named by id, prefix or name."""
    from tunesmith.client.names import resolve_experiment
    from tunesmith.v1 import experiment_pb2

    session = session_of(ctx)
    with session.client() as client:
        request = experiment_pb2.GetExperimentRequest(experiment_id=resolve_experiment(client, experiment))
        response = client.experiments.GetExperiment(request)
    session.out.response(response, response.experiment)


@experiment.command()
@click.argument("experiment", shell_complete=EXPERIMENTS)
@click.option("--description", default=None, help="What it is about.")
@click.option("--dataset", default=None, shell_complete=DATASETS, help="Data set that its runs use; '' for none.")
@_settings_file
@training_type_option
@set_option
@label_option
@click.pass_context
def update(
    ctx: click.Context,
    experiment: str,
    description: str | None,
    dataset: str | None,
    file: Path | None,
    training_type: str | None,
    assignments: tuple[str, ...],
    labels: tuple[str, ...],
) -> None:
    """Change an experiment; what is not given stays.

    --settings and another --training-type replace the settings, --set changes single ones. Exit code 4: somebody else
    changed it meanwhile.
    """
    from tunesmith import spec
    from tunesmith.client.names import resolve_dataset, resolve_experiment
    from tunesmith.v1 import experiment_pb2

    session = session_of(ctx)
    with session.client() as client:
        request = experiment_pb2.GetExperimentRequest(experiment_id=resolve_experiment(client, experiment))
        wanted = client.experiments.GetExperiment(request).experiment
        paths = []
        if description is not None:
            wanted.description = description
            paths.append("description")
        if dataset is not None:
            wanted.dataset_id = resolve_dataset(client, dataset) if dataset else ""
            paths.append("dataset_id")
        if file or training_type or assignments:
            before = spec.kind_of(wanted.default_spec)
            mapping, texts = lm_submit.below_its_kind(
                read_mapping(file), training_type, file=file, note=session.out.note, otherwise=before
            )
            given = spec_of(mapping, assignments)
            settle_adapter(client, given)
            lm_submit.settle_corpus(client, given, texts)
            wanted.default_spec.CopyFrom(given if file else spec.merge(wanted.default_spec, given))
            paths.append("default_spec")
        if labels:
            after = changed(dict(wanted.labels), labels_of(labels))
            wanted.labels.clear()
            wanted.labels.update(after)
            paths.append("labels")
        if not paths:
            raise click.UsageError(
                "nothing to change; give --description, --dataset, --settings, --training-type, --set or --label"
            )
        update_request = experiment_pb2.UpdateExperimentRequest(experiment=wanted)
        update_request.update_mask.paths.extend(paths)
        response = client.experiments.UpdateExperiment(update_request)
    session.out.response(response, response.experiment)
    session.out.note(f"changed {', '.join(paths)} of {response.experiment.name}")
