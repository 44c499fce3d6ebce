"""Writes to experiments, each in one transaction."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from control_plane.datasets import store as datasets
from control_plane.db import requests
from control_plane.db.pool import Database
from control_plane.db.requests import Request
from control_plane.errors import EtagMismatch, NameTaken
from control_plane.experiments import store
from control_plane.experiments.model import Experiment
from control_plane.ids import new_id
from tunesmith.v1 import job_spec_pb2

CHANGEABLE = frozenset({"description", "dataset_id", "default_spec", "labels"})


async def create_experiment(
    db: Database,
    *,
    name: str,
    description: str = "",
    dataset_id: str | None = None,
    default_spec: job_spec_pb2.JobSpec | None = None,
    labels: Mapping[str, str] | None = None,
    request: Request | None = None,
) -> Experiment:
    """Create an experiment. Raises NameTaken, DatasetNotFound, RequestIdReused."""
    async with db.transaction() as conn:
        if made := await requests.replay(conn, request):
            return await store.get(conn, made)
        if dataset_id:
            await datasets.get(conn, dataset_id)
        experiment_id = new_id("exp")
        stored = await store.insert(
            conn,
            experiment_id=experiment_id,
            name=name,
            description=description,
            dataset_id=dataset_id or None,
            default_spec=default_spec,
            labels=dict(labels or {}),
        )
        if not stored:
            raise NameTaken(f"there is an experiment {name} already; choose another name, or use that one", name=name)
        await requests.remember(conn, request, experiment_id)
        return await store.get(conn, experiment_id)


async def update_experiment(
    db: Database, *, experiment_id: str, etag: str = "", changes: Mapping[str, Any]
) -> Experiment:
    """Change the fields that `changes` names, some of CHANGEABLE. etag: of what was read; empty changes it anyway.

    Raises ExperimentNotFound, EtagMismatch, DatasetNotFound.
    """
    unknown = changes.keys() - CHANGEABLE
    if unknown:
        raise ValueError(f"these fields of an experiment cannot be changed: {', '.join(sorted(unknown))}")
    async with db.transaction() as conn:
        found = await store.lock(conn, experiment_id)
        if etag and etag != found.etag:
            raise EtagMismatch(
                "the experiment was changed since it was read; read it again and repeat the update",
                experiment_id=experiment_id,
                etag=found.etag,
            )
        changed = replace(found, **changes)
        changed = replace(changed, dataset_id=changed.dataset_id or None)
        if changed.dataset_id:
            await datasets.get(conn, changed.dataset_id)
        return await store.update(conn, changed)
