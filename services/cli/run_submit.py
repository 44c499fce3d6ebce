"""`tunesmith run submit`: from a file and flags to a queued run, and then to watching it."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from services.cli.commands import ClientCommand, session_of
from services.cli.completion import DATASETS, EXPERIMENTS
from services.cli.labels import label_option, labels_of
from services.cli.output import enum_text
from services.cli.settings_input import given_flags, read_mapping, set_option, setting_flags, spec_of
from tunesmith.errors import FieldProblem, InvalidField

if TYPE_CHECKING:
    from tunesmith.client.client import Client
    from tunesmith.v1.run_pb2 import CreateRunRequest

# Keys of the file beside the kinds of training; the first five are flags too.
KEYS = ("experiment", "dataset", "dataset_version", "min_rating", "display_name", "priority", "labels")


@click.command(cls=ClientCommand)
@click.argument("file", required=False, type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--experiment", shell_complete=EXPERIMENTS, help="The experiment, by name or id.")
@click.option("--dataset", shell_complete=DATASETS, help="Train on this data set's newest version.")
@click.option("--dataset-version", metavar="VERSION", help="Train on this version: dsv_… or NAME@NUMBER.")
@click.option("--min-rating", type=float, help="Freeze a version with this lowest rating, 1 to 5.")
@click.option("--display-name", "--name", "display_name", help="What to call the run.")
@click.option("--priority", type=int, help="Higher is served first, -100 to 100.")
@label_option
@click.option("--dry-run", is_flag=True, help="Check and resolve everything, show the run, store nothing.")
@click.option("-d", "--detach", is_flag=True, help="Return at once instead of watching.")
@set_option
@setting_flags()
@click.pass_context
def submit(
    ctx: click.Context,
    /,
    file: Path | None,
    labels: tuple[str, ...],
    dry_run: bool,
    detach: bool,
    assignments: tuple[str, ...],
    **keywords: Any,
) -> int:
    """Queue a training and watch it until it ends.

    FILE is YAML: experiment, dataset or dataset_version, min_rating, display_name, priority, labels, and the settings
    under their kind (`supervised: {training: {epochs: 3}}`). Flags and --set stand above the file; what nobody gives,
    the experiment decides. Unknown keys are refused. Ctrl-C while watching leaves the run alone.

    Exit codes: 0 succeeded (or queued, with -d), 2 a setting is wrong, 3 no such experiment, 7 failed, 8 cancelled.
    """
    from services.cli.attach import attach

    session = session_of(ctx)
    mapping = read_mapping(file)
    given = {key: mapping.pop(key) for key in KEYS if key in mapping}
    given |= {key: value for key in KEYS if (value := keywords.get(key)) is not None}
    given["labels"] = _labels_in(given.get("labels")) | labels_of(labels)
    _refuse_misspelt(mapping)
    spec = spec_of(mapping, assignments, given_flags(keywords))
    with session.client() as client:
        request = _request(client, given, dry_run=dry_run)
        if spec.WhichOneof("kind"):
            request.spec.CopyFrom(spec)
        response = client.runs.CreateRun(request)
        run = response.run
        if run.dataset_version_id:
            session.out.note(f"trains on {_described(client, run.dataset_version_id)}")
        if dry_run:
            session.out.response(response, run)
            session.out.note("nothing was stored (--dry-run)")
            return 0
        if not detach:
            session.out.note(f"{run.run_id} is {enum_text(run, 'state')}; Ctrl-C leaves it alone")
            return int(attach(session, client, run.run_id))
    if session.out.format == "table":
        session.out.pairs([("run_id", run.run_id), ("state", enum_text(run, "state"))])
    else:
        session.out.response(response)
    session.out.note(f"next: tunesmith run watch {run.run_id}")
    return 0


def _refuse_misspelt(mapping: Mapping[str, Any]) -> None:
    """Keys that are close to one of ours; the others are checked as kinds of training."""
    problems = []
    for key in mapping:
        near = difflib.get_close_matches(str(key).replace("-", "_"), KEYS, n=1, cutoff=0.75)
        if near:
            problems.append(FieldProblem(str(key), f"unknown key; did you mean {near[0]}?"))
    if problems:
        raise InvalidField.of(problems)


def _labels_in(value: object) -> dict[str, str]:
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise InvalidField.of([FieldProblem("labels", "must be a mapping of texts")])
    return {str(key): str(text) for key, text in value.items()}


def _request(client: Client, given: Mapping[str, Any], *, dry_run: bool) -> CreateRunRequest:
    """The request without its settings; names become ids, and a data set the version to train on."""
    from tunesmith.client.names import resolve_dataset_version, resolve_experiment
    from tunesmith.v1 import run_pb2

    if not given.get("experiment"):
        raise click.UsageError("which experiment? give --experiment, or the key experiment in the file")
    request = run_pb2.CreateRunRequest(
        experiment_id=resolve_experiment(client, str(given["experiment"])),
        display_name=str(given.get("display_name", "")),
        priority=_number("priority", given.get("priority", 0), int),
        labels=given["labels"],
        validate_only=dry_run,
    )
    if given.get("dataset") and given.get("dataset_version"):
        raise click.UsageError("dataset and dataset_version do not go together; dataset takes its newest version")
    if given.get("dataset_version"):
        request.dataset_version_id = resolve_dataset_version(client, str(given["dataset_version"]))
    if given.get("min_rating") is not None:
        request.min_rating = _number("min_rating", given["min_rating"], float)
    if given.get("dataset"):
        _choose_version(client, request, str(given["dataset"]))
    return request


def _described(client: Client, dataset_version_id: str) -> str:
    """A version in words: that which is taken where none was named may be a narrow one, or an old one."""
    from tunesmith.v1 import dataset_pb2

    wanted = dataset_pb2.GetDatasetVersionRequest(dataset_version_id=dataset_version_id)
    version = client.datasets.GetDatasetVersion(wanted).dataset_version
    of = dataset_pb2.GetDatasetRequest(dataset_id=version.dataset_id)
    dataset = client.datasets.GetDataset(of).dataset
    rated = f", those rated {version.min_rating:g} or better" if version.HasField("min_rating") else ""
    counted = f"{version.sample_count} of {dataset.sample_count} samples"
    return f"{dataset.name}@{version.number}: {counted}{rated} ({dataset_version_id})"


def _number(key: str, value: Any, kind: type[int] | type[float]) -> Any:
    try:
        return kind(value)
    except (TypeError, ValueError) as error:
        raise InvalidField.of([FieldProblem(key, f"{value!r} is no number")]) from error


def _choose_version(client: Client, request: CreateRunRequest, dataset: str) -> None:
    """The version to train on, for a data set by name. The experiment's own is left to the server to freeze."""
    from tunesmith.client.names import resolve_dataset, resolve_dataset_version
    from tunesmith.v1 import dataset_pb2, experiment_pb2

    dataset_id = resolve_dataset(client, dataset)
    wanted = experiment_pb2.GetExperimentRequest(experiment_id=request.experiment_id)
    if client.experiments.GetExperiment(wanted).experiment.dataset_id == dataset_id:
        return
    if not request.HasField("min_rating"):
        request.dataset_version_id = resolve_dataset_version(client, dataset)
        return
    if request.validate_only:
        raise click.UsageError(
            f"--dry-run stores nothing, so it cannot freeze a version of {dataset}; "
            f"use `tunesmith dataset version create {dataset}` and --dataset-version, or leave --min-rating out"
        )
    freeze = dataset_pb2.CreateDatasetVersionRequest(dataset_id=dataset_id, min_rating=request.min_rating)
    request.dataset_version_id = client.datasets.CreateDatasetVersion(freeze).dataset_version.dataset_version_id
    request.ClearField("min_rating")
