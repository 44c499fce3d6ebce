"""Which frozen data a run trains on: chosen by a data set's name, and told in words before it is queued."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from services.cli.version_words import holding, rated

if TYPE_CHECKING:
    from tunesmith.client.client import Client
    from tunesmith.v1.dataset_pb2 import DatasetVersion
    from tunesmith.v1.run_pb2 import CreateRunRequest

# What each kind of training can take, the first by itself, in the words of Derivation; rated clips are None.
FORMS: dict[str, tuple[str | None, ...]] = {
    "supervised": (None,),
    "dpo": ("pairs",),
    "ranking": ("ranked_lists", "pairs"),
}


def from_preferences(kind: str) -> bool:
    """Whether a kind of training takes pairs or lists instead of rated clips."""
    return None not in FORMS.get(kind, (None,))


def choose_version(client: Client, request: CreateRunRequest, dataset: str, kind: str) -> None:
    """Put the version to train on into `request`, for a data set by name.

    The experiment's own is left to the server, which freezes what is missing. Raises ApiError
    DATASET_VERSION_NOT_FOUND where the data set has no version that holds what the kind takes.
    """
    from tunesmith.client.names import resolve_dataset
    from tunesmith.v1 import dataset_pb2, experiment_pb2

    dataset_id = resolve_dataset(client, dataset)
    wanted = experiment_pb2.GetExperimentRequest(experiment_id=request.experiment_id)
    if client.experiments.GetExperiment(wanted).experiment.dataset_id == dataset_id:
        return
    if not request.HasField("min_rating"):
        request.dataset_version_id = _newest(client, dataset, dataset_id, kind)
        return
    if request.validate_only:
        raise click.UsageError(
            f"--dry-run stores nothing, so it cannot freeze a version of {dataset}; "
            f"use `tunesmith dataset version create {dataset}` and --dataset-version, or leave --min-rating out"
        )
    freeze = dataset_pb2.CreateDatasetVersionRequest(dataset_id=dataset_id, min_rating=request.min_rating)
    request.dataset_version_id = client.datasets.CreateDatasetVersion(freeze).dataset_version.dataset_version_id
    request.ClearField("min_rating")


def _newest(client: Client, dataset: str, dataset_id: str, kind: str) -> str:
    from tunesmith.client.errors import ApiError
    from tunesmith.client.lists import read_list
    from tunesmith.v1 import dataset_pb2

    request = dataset_pb2.ListDatasetVersionsRequest(dataset_id=dataset_id)
    form = FORMS.get(kind, (None,))[0]
    for version in read_list(client.datasets.ListDatasetVersions, request).dataset_versions:
        if version.derivation.WhichOneof("settings") == form:
            return str(version.dataset_version_id)
    flag = f" --{form.replace('_', '-')}" if form else ""
    message = (
        f"{dataset} has no version that {kind} can be trained on; freeze one: "
        f"tunesmith dataset version create {dataset}{flag}"
    )
    raise ApiError("DATASET_VERSION_NOT_FOUND", "NOT_FOUND", message)


def settle_version(client: Client, request: CreateRunRequest, kind: str) -> str:
    """What a run from preferences will be trained on, in words, before it is queued.

    Puts the version that the server would take into `request`, so that what was told is what is trained on. Where
    there is none yet, tells what the server will freeze.
    """
    from tunesmith.v1 import dataset_pb2, experiment_pb2, run_pb2

    if not request.dataset_version_id:
        rehearsal = run_pb2.CreateRunRequest()
        rehearsal.CopyFrom(request)
        rehearsal.validate_only = True
        request.dataset_version_id = client.runs.CreateRun(rehearsal).run.dataset_version_id
    if request.dataset_version_id:
        return in_words(client, request.dataset_version_id)
    wanted = experiment_pb2.GetExperimentRequest(experiment_id=request.experiment_id)
    dataset_id = client.experiments.GetExperiment(wanted).experiment.dataset_id
    freeze = dataset_pb2.CreateDatasetVersionRequest(dataset_id=dataset_id, validate_only=True)
    getattr(freeze, str(FORMS[kind][0])).SetInParent()
    version = client.datasets.CreateDatasetVersion(freeze).dataset_version
    return f"{_dataset_in_words(client, version)}, frozen now"


def in_words(client: Client, dataset_version_id: str) -> str:
    """A version in words: that which is taken where none was named may be a narrow one, or an old one."""
    from tunesmith.v1 import dataset_pb2

    wanted = dataset_pb2.GetDatasetVersionRequest(dataset_version_id=dataset_version_id)
    version = client.datasets.GetDatasetVersion(wanted).dataset_version
    return f"{_dataset_in_words(client, version)} ({dataset_version_id})"


def _dataset_in_words(client: Client, version: DatasetVersion) -> str:
    """`songs@2: 312 pairs from 140 prompts`; without a number where it is not frozen yet."""
    from tunesmith.v1 import dataset_pb2

    of = dataset_pb2.GetDatasetRequest(dataset_id=version.dataset_id)
    dataset = client.datasets.GetDataset(of).dataset
    name = f"{dataset.name}@{version.number}" if version.number else dataset.name
    if version.HasField("derivation"):
        return f"{name}: {holding(version)}"
    return f"{name}: {version.sample_count} of {dataset.sample_count} samples{rated(version)}"
