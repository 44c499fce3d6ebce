"""Experiments, adapters and nodes: names, updates, pages."""

from __future__ import annotations

import asyncio

import pytest

from control_plane.adapters import store as adapters
from control_plane.adapters.commands import update_labels
from control_plane.errors import AdapterNotFound, DatasetNotFound, EtagMismatch, ExperimentNotFound, NameTaken
from control_plane.experiments import store
from control_plane.experiments.commands import create_experiment, update_experiment
from control_plane.ids import new_id
from control_plane.nodes import store as nodes
from tests.support.registry import SUCCEEDED, Registry, supervised


async def test_an_experiment_comes_back_as_it_was_given(registry: Registry):
    dataset = await registry.dataset()

    made = await create_experiment(
        registry.db,
        name="first",
        description="does it swing?",
        dataset_id=dataset.dataset_id,
        default_spec=supervised(epochs=3),
        labels={"team": "a"},
    )

    async with registry.db.connection() as conn:
        assert await store.get(conn, made.experiment_id) == made
    assert (made.default_spec, made.labels, made.etag) == (supervised(epochs=3), {"team": "a"}, "1")


async def test_a_name_belongs_to_one_experiment(registry: Registry):
    await create_experiment(registry.db, name="first")

    with pytest.raises(NameTaken):
        await create_experiment(registry.db, name="first")


async def test_an_experiment_of_no_data_set_is_refused(registry: Registry):
    with pytest.raises(DatasetNotFound):
        await create_experiment(registry.db, name="first", dataset_id=new_id("dst"))
    assert await registry.count("experiments") == 0


async def test_an_update_changes_the_named_fields_and_the_etag(registry: Registry):
    made = await create_experiment(registry.db, name="first", description="old", labels={"a": "1"})

    changed = await update_experiment(
        registry.db, experiment_id=made.experiment_id, etag=made.etag, changes={"description": "new"}
    )

    assert (changed.description, changed.labels, changed.etag) == ("new", {"a": "1"}, "2")
    with pytest.raises(EtagMismatch, match="read it again"):
        await update_experiment(
            registry.db, experiment_id=made.experiment_id, etag=made.etag, changes={"description": "late"}
        )
    with pytest.raises(ExperimentNotFound):
        await update_experiment(registry.db, experiment_id=new_id("exp"), changes={})


async def test_of_two_updates_with_one_etag_one_is_refused(registry: Registry):
    made = await create_experiment(registry.db, name="first")

    outcomes = await asyncio.gather(
        *(
            update_experiment(
                registry.db, experiment_id=made.experiment_id, etag=made.etag, changes={"description": word}
            )
            for word in ("a", "b")
        ),
        return_exceptions=True,
    )

    assert [type(each) for each in outcomes if isinstance(each, Exception)] == [EtagMismatch]


async def test_pages_are_newest_first_and_stable_while_others_insert(registry: Registry):
    for number in range(5):
        await create_experiment(registry.db, name=f"e{number}")
        await asyncio.sleep(0.002)  # ids of one millisecond have no order

    async with registry.db.connection() as conn:
        first = await store.page(conn, limit=2)
        await create_experiment(registry.db, name="late")
        second = await store.page(conn, after=first[-1].experiment_id, limit=10)
        by_prefix = await store.page(conn, id_prefix=first[0].experiment_id, limit=10)

    assert [each.name for each in first + second] == ["e4", "e3", "e2", "e1", "e0"]
    assert by_prefix == first[:1]


async def test_adapters_of_one_experiment_count_up_though_they_end_at_once(registry: Registry):
    experiment = await registry.experiment("folk")
    node = await registry.node(slots=6)
    jobs = []
    for _ in range(6):
        await registry.queued(experiment)
        jobs.append(await registry.claim(node))
        await registry.begin(jobs[-1])

    await asyncio.gather(*(registry.finish(job, SUCCEEDED) for job in jobs))

    async with registry.db.connection() as conn:
        found = await adapters.page(conn, name="folk", limit=10)
    assert sorted(adapter.version for adapter in found) == [1, 2, 3, 4, 5, 6]


async def test_labels_of_an_adapter_can_be_replaced_under_its_etag(registry: Registry):
    _, job = await registry.running()
    run = await registry.finish(job, SUCCEEDED)
    assert run.adapter_id is not None

    changed = await update_labels(registry.db, adapter_id=run.adapter_id, etag="1", labels={"stage": "live"})

    assert (changed.labels, changed.etag) == ({"stage": "live"}, "2")
    with pytest.raises(EtagMismatch):
        await update_labels(registry.db, adapter_id=run.adapter_id, etag="1", labels={})
    with pytest.raises(AdapterNotFound):
        await update_labels(registry.db, adapter_id=new_id("adp"), labels={})


async def test_a_node_that_comes_back_keeps_its_id_and_brings_its_new_facts(registry: Registry):
    first = await registry.node("box", slots=1)
    await registry.silence(first)
    async with registry.db.connection() as conn:
        silent = await nodes.get(conn, first.node_id)

    again = await registry.node("box", slots=4, kinds=("supervised", "dpo"))

    assert (silent.online, again.online) == (False, True)
    assert (again.node_id, again.slots, again.kinds) == (first.node_id, 4, ("dpo", "supervised"))


async def test_a_node_that_joins_wakes_dispatch_and_one_that_is_still_there_does_not(registry: Registry):
    with registry.db.hub.subscribe("queue") as woken:
        await asyncio.wait_for(woken.wait(), 5)  # the hub has begun to listen
        woken.clear()
        node = await registry.node("box")
        await asyncio.wait_for(woken.wait(), 5)

        woken.clear()
        await registry.node("box")
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(woken.wait(), 0.2)

        await registry.silence(node)
        await registry.node("box")
        await asyncio.wait_for(woken.wait(), 5)
