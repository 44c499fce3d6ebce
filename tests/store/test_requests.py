"""Repeating a Create or Resume with the same request id has no second effect."""

from __future__ import annotations

import asyncio

import pytest

from control_plane.config import PruneConfig
from control_plane.datasets.commands import create_dataset, create_version
from control_plane.db.connection import execute
from control_plane.db.requests import Request
from control_plane.errors import NameTaken, RequestIdReused
from control_plane.experiments.commands import create_experiment
from control_plane.loops.prune import Prune
from control_plane.runs.commands import create_run, resume_run
from tests.support.registry import FAILED, Registry, supervised


def request(method: str = "CreateDataset", *, request_id: str = "request-1", body: str = "body") -> Request:
    return Request(method=method, request_id=request_id, body_digest=body)


async def test_twenty_repeats_at_once_have_one_effect(registry: Registry):
    experiment = await registry.experiment()

    made = await asyncio.gather(
        *(
            create_run(
                registry.db,
                registry.blobs,
                experiment_id=experiment.experiment_id,
                spec=supervised(),
                request=request("CreateRun"),
            )
            for _ in range(20)
        )
    )

    assert len({run.run_id for run in made}) == 1
    assert await registry.count("runs") == 1
    assert await registry.count("dataset_versions") == 1


async def test_a_repeat_returns_what_the_first_call_made(registry: Registry):
    first = await create_dataset(registry.db, name="one", request=request())
    second = await create_dataset(registry.db, name="one", request=request())
    version = request("CreateDatasetVersion")

    assert first == second
    with pytest.raises(NameTaken):
        await create_dataset(registry.db, name="one", request=request(request_id="request-2"))
    experiments = [await create_experiment(registry.db, name="e", request=request("CreateExperiment")) for _ in "ab"]
    assert experiments[0] == experiments[1]
    dataset = await registry.dataset(name="two")
    versions = [
        await create_version(registry.db, registry.blobs, dataset_id=dataset.dataset_id, request=version) for _ in "ab"
    ]
    assert versions[0] == versions[1]


async def test_a_resume_that_is_repeated_makes_one_run(registry: Registry):
    run, job = await registry.running()
    await registry.checkpoint(job, 10)
    await registry.finish(job, FAILED)

    made = [await resume_run(registry.db, run_id=run.run_id, request=request("ResumeRun")) for _ in "ab"]

    assert made[0].run_id == made[1].run_id != run.run_id


async def test_the_same_id_with_another_body_is_refused(registry: Registry):
    await create_dataset(registry.db, name="one", request=request(body="body"))

    with pytest.raises(RequestIdReused, match="use a new one"):
        await create_dataset(registry.db, name="two", request=request(body="another"))
    assert await registry.count("datasets") == 1


async def test_a_call_that_failed_leaves_its_request_id_free(registry: Registry):
    await create_dataset(registry.db, name="taken")
    with pytest.raises(NameTaken):
        await create_dataset(registry.db, name="taken", request=request())

    assert (await create_dataset(registry.db, name="free", request=request())).name == "free"


async def test_a_request_is_forgotten_after_a_day_and_not_before(registry: Registry):
    await create_dataset(registry.db, name="old", request=request(request_id="request-old"))
    await create_dataset(registry.db, name="young", request=request(request_id="request-young"))
    async with registry.db.transaction() as conn:
        sql = "UPDATE requests SET create_time = now() - interval '25 hours' WHERE request_id = 'request-old'"
        await execute(conn, sql)

    await Prune(registry.db, PruneConfig(batch=1)).tick()

    assert await registry.count("requests") == 1
    again = await create_dataset(registry.db, name="young", request=request(request_id="request-young"))
    assert again.name == "young"
