"""What a person types, as an id: a whole id, a unique prefix of one, or a name.

A whole id is taken as it is, so it costs no call. `run_01J8` and `01J8` are the same prefix. Names work for
experiments, data sets, nodes, adapters and models; `name@3` is version 3, a bare name the newest.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any

from tunesmith.client.client import Client
from tunesmith.client.errors import AmbiguousId, ApiError
from tunesmith.client.lists import entries, read_list
from tunesmith.v1 import adapter_pb2, dataset_pb2, experiment_pb2, model_pb2, node_pb2, run_pb2

_SHOWN = 5  # candidates named where a prefix fits more than one
_DIGIT = "[0-9A-HJKMNP-TV-Z]"


def resolve_run(client: Client, text: str) -> str:
    """The run_id that `text` means."""

    def find(prefix: str) -> list[str]:
        found = read_list(client.runs.ListRuns, run_pb2.ListRunsRequest(id_prefix=prefix), limit=_SHOWN + 1)
        return [run.run_id for run in found.runs]

    return _by_prefix(text, "run", find) or _missing("RUN_NOT_FOUND", "run", text, "tunesmith run list")


def resolve_experiment(client: Client, text: str) -> str:
    """The experiment_id that `text`, an id, a prefix or a name, means."""

    def find(id_prefix: str, name: str) -> list[str]:
        request = experiment_pb2.ListExperimentsRequest(id_prefix=id_prefix, name=name)
        found = read_list(client.experiments.ListExperiments, request, limit=_SHOWN + 1)
        return [one.experiment_id for one in found.experiments]

    return _by_prefix_or_name(text, "exp", find) or _missing(
        "EXPERIMENT_NOT_FOUND", "experiment", text, "tunesmith experiment list"
    )


def resolve_dataset(client: Client, text: str) -> str:
    """The dataset_id that `text`, an id, a prefix or a name, means."""

    def find(id_prefix: str, name: str) -> list[str]:
        request = dataset_pb2.ListDatasetsRequest(id_prefix=id_prefix, name=name)
        found = read_list(client.datasets.ListDatasets, request, limit=_SHOWN + 1)
        return [one.dataset_id for one in found.datasets]

    return _by_prefix_or_name(text, "dst", find) or _missing(
        "DATASET_NOT_FOUND", "data set", text, "tunesmith dataset list"
    )


def resolve_dataset_version(client: Client, text: str) -> str:
    """The dataset_version_id that `text` means: an id, a prefix, `name@number`, or a data set's newest version."""

    def find(prefix: str) -> list[str]:
        request = dataset_pb2.ListDatasetVersionsRequest(id_prefix=prefix)
        found = read_list(client.datasets.ListDatasetVersions, request, limit=_SHOWN + 1)
        return [one.dataset_version_id for one in found.dataset_versions]

    if looks_like_id(text, "dsv"):
        found = _by_prefix(text, "dsv", find)
    else:
        name, _, number = text.partition("@")
        request = dataset_pb2.ListDatasetVersionsRequest(dataset_id=resolve_dataset(client, name))
        versions = read_list(client.datasets.ListDatasetVersions, request, limit=None if number else 1)
        found = _numbered(entries(versions), number, "number", "dataset_version_id")
    return found or _missing("DATASET_VERSION_NOT_FOUND", "data set version", text, "tunesmith dataset version list")


def resolve_adapter(client: Client, text: str) -> str:
    """The adapter_id that `text` means: an id, a prefix, `name@version`, or the newest with that name."""

    def find(prefix: str) -> list[str]:
        found = read_list(
            client.adapters.ListAdapters, adapter_pb2.ListAdaptersRequest(id_prefix=prefix), limit=_SHOWN + 1
        )
        return [one.adapter_id for one in found.adapters]

    if looks_like_id(text, "adp"):
        found = _by_prefix(text, "adp", find)
    else:
        name, _, number = text.partition("@")
        request = adapter_pb2.ListAdaptersRequest(name=name)
        versions = read_list(client.adapters.ListAdapters, request, limit=None if number else 1)
        found = _numbered(entries(versions), number, "version", "adapter_id")
    return found or _missing("ADAPTER_NOT_FOUND", "adapter", text, "tunesmith adapter list")


def resolve_model(client: Client, text: str) -> str:
    """The model_id that `text` means: an id, a prefix, `name@version`, or the newest with that name."""

    def find(prefix: str) -> list[str]:
        found = read_list(client.models.ListModels, model_pb2.ListModelsRequest(id_prefix=prefix), limit=_SHOWN + 1)
        return [one.model_id for one in found.models]

    if looks_like_id(text, "mdl"):
        found = _by_prefix(text, "mdl", find)
    else:
        name, _, number = text.partition("@")
        request = model_pb2.ListModelsRequest(name=name)
        versions = read_list(client.models.ListModels, request, limit=None if number else 1)
        found = _numbered(entries(versions), number, "version", "model_id")
    return found or _missing("MODEL_NOT_FOUND", "model", text, "tunesmith model list")


def resolve_node(client: Client, text: str) -> str:
    """The node_id that `text`, an id, a prefix or a name, means."""

    def find(id_prefix: str, name: str) -> list[str]:
        found = read_list(
            client.nodes.ListNodes, node_pb2.ListNodesRequest(id_prefix=id_prefix, name=name), limit=_SHOWN + 1
        )
        return [one.node_id for one in found.nodes]

    return _by_prefix_or_name(text, "nod", find) or _missing("NODE_NOT_FOUND", "node", text, "tunesmith node list")


def looks_like_id(text: str, kind: str) -> bool:
    """Whether `text` is an id of that kind or the beginning of one, with or without the type prefix."""
    return bool(re.fullmatch(rf"{kind}_{_DIGIT}{{0,26}}|0{_DIGIT}{{1,25}}", text))


def _by_prefix(text: str, kind: str, find: Callable[[str], list[str]]) -> str:
    if not looks_like_id(text, kind):
        return ""
    prefix = text if text.startswith(f"{kind}_") else f"{kind}_{text}"
    if len(prefix) == len(kind) + 27:
        return prefix
    found = find(prefix)
    if len(found) > 1:
        raise AmbiguousId(text, found[:_SHOWN], more=len(found) > _SHOWN)
    return found[0] if found else ""


def _by_prefix_or_name(text: str, kind: str, find: Callable[[str, str], list[str]]) -> str:
    return _by_prefix(text, kind, lambda prefix: find(prefix, "")) or "".join(find("", text)[:1])


def _numbered(found: Sequence[Any], number: str, number_field: str, id_field: str) -> str:
    """The id of the entry with that number; of the first where no number is asked for."""
    for one in found:
        if not number or str(getattr(one, number_field)) == number:
            return str(getattr(one, id_field))
    return ""


def _missing(reason: str, what: str, text: str, listing: str) -> str:
    raise ApiError(reason, "NOT_FOUND", f"no {what} {text}; `{listing}` shows what there is")
