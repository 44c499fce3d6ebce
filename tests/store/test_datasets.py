"""Data sets: samples all or none, versions frozen for ever."""

from __future__ import annotations

import asyncio
import json

import pytest

from control_plane.datasets import store
from control_plane.datasets.commands import add_samples, create_dataset, create_version, delete_version
from control_plane.db.connection import fetch_all
from control_plane.errors import (
    DatasetEmpty,
    DatasetNotFound,
    DatasetVersionInUse,
    DatasetVersionNotFound,
    NameTaken,
    SampleInvalid,
)
from control_plane.ids import new_id
from control_plane.ports import AudioFacts
from tests.support.fakes import FakeInspector
from tests.support.registry import SUCCEEDED, Registry, clip, digest_of
from tunesmith.errors import InvalidField


async def test_a_name_belongs_to_one_data_set(registry: Registry):
    await registry.dataset(name="clips")

    with pytest.raises(NameTaken, match="choose another name"):
        await registry.dataset(name="clips")


async def test_samples_come_back_in_the_order_they_were_added(registry: Registry):
    words = [f"clip {number}" for number in range(30)]
    dataset = await registry.dataset(*[clip(word, rating=1.5, genre="folk") for word in words])

    async with registry.db.connection() as conn:
        first = await store.samples(conn, dataset_id=dataset.dataset_id, limit=10)
        rest = await store.samples(conn, dataset_id=dataset.dataset_id, after=first[-1].sample_id, limit=100)

    assert [sample.prompt for sample in first + rest] == [f"a {word}" for word in words]
    assert (first[0].rating, first[0].tags, first[0].duration_s) == (1.5, {"genre": "folk"}, 2.5)


async def test_every_refused_row_is_named_and_nothing_is_stored(registry: Registry):
    dataset = await registry.dataset(clip("good"))
    inspector = FakeInspector(
        {digest_of("torn"): "the file ends early; export it again", digest_of("gone"): "not here"}
    )

    with pytest.raises(SampleInvalid, match=r"2 of 4 samples were refused and none was stored") as caught:
        samples = [clip("new"), clip("torn"), clip("good"), clip("gone")]
        await add_samples(registry.db, inspector, dataset_id=dataset.dataset_id, samples=samples)

    assert [str(field) for field in caught.value.fields] == [
        "samples[1].audio_digest: the file ends early; export it again",
        "samples[3].audio_digest: not here",
    ]
    assert await registry.count("samples") == 1


async def test_adding_samples_again_adds_nothing_and_inspects_nothing(registry: Registry):
    dataset = await registry.dataset(clip("drum"))
    inspector = FakeInspector()
    samples = [clip("drum"), clip("harp"), clip("harp"), clip("drum", prompt="another prompt")]

    first = await add_samples(registry.db, inspector, dataset_id=dataset.dataset_id, samples=samples)
    second = await add_samples(registry.db, inspector, dataset_id=dataset.dataset_id, samples=samples)

    assert (first, second) == ((2, 2), (0, 4))
    assert sorted(inspector.inspected) == sorted([digest_of("harp"), digest_of("drum")])


async def test_samples_of_no_data_set_are_refused(registry: Registry):
    with pytest.raises(DatasetNotFound):
        await add_samples(registry.db, FakeInspector(), dataset_id=new_id("dst"), samples=[clip("drum")])


async def test_the_export_is_the_same_bytes_for_ever(registry: Registry):
    dataset = await registry.dataset(clip("drum", rating=2, b="2", a="ä"), clip("harp", rating=4.5))
    version = await create_version(registry.db, registry.blobs, dataset_id=dataset.dataset_id)

    await add_samples(registry.db, FakeInspector(), dataset_id=dataset.dataset_id, samples=[clip("late")])

    again = await create_version(registry.db, registry.blobs, dataset_id=dataset.dataset_id)
    jsonl = registry.blobs.stored[version.digest]
    assert (
        jsonl
        == (
            f'{{"audio_digest":"{digest_of("drum")}","duration_s":2.5,"prompt":"a drum","rating":2.0,'
            '"tags":{"a":"ä","b":"2"}}\n'
            f'{{"audio_digest":"{digest_of("harp")}","duration_s":2.5,"prompt":"a harp","rating":4.5,"tags":{{}}}}\n'
        ).encode()
    )
    assert (version.number, version.sample_count, version.size_bytes) == (1, 2, len(jsonl))
    assert (again.number, again.sample_count) == (2, 3)
    assert registry.blobs.stored[again.digest].startswith(jsonl)
    async with registry.db.connection() as conn:
        frozen = await store.version_samples(conn, dataset_version_id=version.dataset_version_id, limit=10)
        paged = await store.version_samples(
            conn, dataset_version_id=again.dataset_version_id, after=frozen[-1].sample_id, limit=10
        )
    assert [sample.prompt for sample in frozen] == ["a drum", "a harp"]
    assert [sample.prompt for sample in paged] == ["a late"]


async def test_a_version_holds_the_samples_that_pass_its_filter(registry: Registry):
    dataset = await registry.dataset(clip("low", rating=2), clip("just", rating=3), clip("high", rating=5))

    version = await create_version(registry.db, registry.blobs, dataset_id=dataset.dataset_id, min_rating=3)

    rows = [json.loads(line) for line in registry.blobs.stored[version.digest].splitlines()]
    assert [row["rating"] for row in rows] == [3, 5]


async def test_a_filter_that_nothing_passes_names_the_highest_rating(registry: Registry):
    dataset = await registry.dataset(clip("low", rating=2.5))
    empty = await create_dataset(registry.db, name="empty")

    with pytest.raises(DatasetEmpty, match=r"lower min_rating; the highest rating is 2\.5"):
        await create_version(registry.db, registry.blobs, dataset_id=dataset.dataset_id, min_rating=4)
    with pytest.raises(DatasetEmpty, match="add samples first"):
        await create_version(registry.db, registry.blobs, dataset_id=empty.dataset_id)


async def test_a_version_in_use_stays_and_names_its_users(registry: Registry):
    run, job = await registry.running()
    ended = await registry.finish(job, SUCCEEDED)
    assert run.dataset_version_id is not None

    with pytest.raises(DatasetVersionInUse) as caught:
        await delete_version(registry.db, dataset_version_id=run.dataset_version_id)

    assert caught.value.message == f"{ended.adapter_id}, {run.run_id} use this version, so it stays"


async def test_a_version_that_nothing_uses_can_be_deleted_and_its_number_is_not_used_again(registry: Registry):
    dataset = await registry.dataset()
    version = await create_version(registry.db, registry.blobs, dataset_id=dataset.dataset_id)

    await delete_version(registry.db, dataset_version_id=version.dataset_version_id)

    with pytest.raises(DatasetVersionNotFound):
        await delete_version(registry.db, dataset_version_id=version.dataset_version_id)
    assert (await create_version(registry.db, registry.blobs, dataset_id=dataset.dataset_id)).number == 2
    assert await registry.count("samples") == 3


async def test_a_version_is_used_or_deleted_never_both(registry: Registry):
    experiment = await registry.experiment()
    assert experiment.dataset_id is not None
    for _ in range(10):
        version = await create_version(registry.db, registry.blobs, dataset_id=experiment.dataset_id)
        outcomes = await asyncio.gather(
            registry.queued(experiment, dataset_version_id=version.dataset_version_id),
            delete_version(registry.db, dataset_version_id=version.dataset_version_id),
            return_exceptions=True,
        )

        failed = [outcome for outcome in outcomes if isinstance(outcome, Exception)]
        assert [type(error) for error in failed] in ([DatasetVersionNotFound], [DatasetVersionInUse])


async def test_versions_made_at_once_get_numbers_of_their_own(registry: Registry):
    dataset = await registry.dataset()

    made = await asyncio.gather(
        *(create_version(registry.db, registry.blobs, dataset_id=dataset.dataset_id) for _ in range(8))
    )

    assert sorted(version.number for version in made) == list(range(1, 9))
    assert len({version.digest for version in made}) == 1


async def test_a_value_that_postgres_cannot_hold_is_the_callers_error(registry: Registry):
    with pytest.raises(InvalidField, match="cannot be stored"):
        await create_dataset(registry.db, name="nul", description="a\0b")


async def test_the_same_samples_may_be_added_at_once_in_any_order(registry: Registry):
    dataset = await create_dataset(registry.db, name="clips")
    dataset_id, facts = dataset.dataset_id, AudioFacts(duration_s=2.5, sample_rate_hz=32_000, channels=1)
    waits = "SELECT count(*) AS n FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"

    async with registry.db.connection() as watcher, registry.db.transaction() as conn:
        await store.lock(conn, dataset_id)
        await store.insert_samples(conn, dataset_id=dataset_id, samples=[(clip("harp"), facts)])
        both = [clip("flute"), clip("harp")]
        other = asyncio.create_task(add_samples(registry.db, FakeInspector(), dataset_id=dataset_id, samples=both))
        async with asyncio.timeout(10):
            while (await fetch_all(watcher, waits))[0]["n"] == 0:  # noqa: ASYNC110  a lock tells nobody
                await asyncio.sleep(0.01)
        added = await store.insert_samples(conn, dataset_id=dataset_id, samples=[(clip("flute"), facts)])

    assert (added, await other) == (1, (0, 2))
