"""Comparisons: all or none, each once, best first, no clip heard twice."""

from __future__ import annotations

import asyncio

import pytest

from control_plane.datasets import comparison_store, store
from control_plane.datasets.commands import add_comparisons, add_samples, create_dataset
from control_plane.datasets.model import Comparison, NewComparison
from control_plane.db.connection import fetch_all
from control_plane.errors import ComparisonInvalid, DatasetNotFound
from control_plane.ids import new_id
from tests.support.fakes import FakeInspector
from tests.support.registry import Registry, clip, compared, digest_of


async def stored(registry: Registry, dataset_id: str) -> list[Comparison]:
    async with registry.db.connection() as conn:
        return await comparison_store.page(conn, dataset_id=dataset_id, limit=1000)


def order_of(comparison: Comparison) -> list[tuple[str, int]]:
    return [(clip.audio_digest, clip.rank) for clip in comparison.clips]


async def test_comparisons_come_back_in_the_order_they_were_added_page_by_page(registry: Registry):
    dataset = await create_dataset(registry.db, name="songs")
    prompts = [f"song {number}" for number in range(30)]

    added = await registry.compare(dataset.dataset_id, *[compared("a", "b", prompt=prompt) for prompt in prompts])

    async with registry.db.connection() as conn:
        first = await comparison_store.page(conn, dataset_id=dataset.dataset_id, limit=10)
        rest = await comparison_store.page(
            conn, dataset_id=dataset.dataset_id, after=first[-1].comparison_id, limit=100
        )
        now = await store.get(conn, dataset.dataset_id)
    assert [comparison.prompt for comparison in first + rest] == prompts
    assert (added, now.comparison_count, now.sample_count) == ((30, 0), 30, 0)


async def test_clips_come_back_best_first_with_ranks_that_have_no_gaps(registry: Registry):
    dataset = await create_dataset(registry.db, name="songs")
    worst, best, tied = digest_of("worst"), digest_of("best"), digest_of("tied")
    given = NewComparison(prompt="a song", clips=((worst, 9), (best, 2), (tied, 2)))

    await registry.compare(dataset.dataset_id, given)

    (found,) = await stored(registry, dataset.dataset_id)
    assert order_of(found) == [(best, 1), (tied, 1), (worst, 2)]
    assert [clip.duration_s for clip in found.clips] == [2.5, 2.5, 2.5]


async def test_a_comparison_that_says_the_same_is_counted_as_a_duplicate(registry: Registry):
    dataset = await create_dataset(registry.db, name="songs")
    first = compared("a", "b c")
    same = NewComparison(prompt=first.prompt, clips=tuple((clip, rank * 3) for clip, rank in reversed(first.clips)))
    others = [compared("b", "a c"), compared("a", "b c", prompt="another song"), compared("a", "b", "c")]

    at_once = await registry.compare(dataset.dataset_id, first, same, *others)
    again = await registry.compare(dataset.dataset_id, same, *others)

    assert (at_once, again) == ((4, 1), (0, 4))
    assert len(await stored(registry, dataset.dataset_id)) == 4


async def test_every_refused_clip_is_named_and_nothing_is_stored(registry: Registry):
    dataset = await create_dataset(registry.db, name="songs")
    inspector = FakeInspector({digest_of("torn"): "the file ends early; export it again"})
    inspector.absent.add(digest_of("gone"))
    given = [compared("good", "fine"), compared("torn", "good", "gone"), compared("fine", "torn")]

    with pytest.raises(
        ComparisonInvalid, match="3 of 7 clips of comparisons were refused and none was stored"
    ) as caught:
        await add_comparisons(registry.db, inspector, dataset_id=dataset.dataset_id, comparisons=given)

    assert [str(field) for field in caught.value.fields] == [
        "comparisons[1].clips[0].audio_digest: the file ends early; export it again",
        "comparisons[1].clips[2].audio_digest: not uploaded; upload it with UploadBlob",
        "comparisons[2].clips[1].audio_digest: the file ends early; export it again",
    ]
    assert await registry.count("comparisons") == await registry.count("comparison_clips") == 0


async def test_only_audio_that_the_data_set_does_not_have_is_inspected(registry: Registry):
    dataset = await registry.dataset(clip("rated"))
    await registry.compare(dataset.dataset_id, compared("heard", "rated"))
    inspector = FakeInspector()
    given = [compared("rated", "new", "heard"), compared("heard", "rated"), compared("new", "newer")]

    added = await add_comparisons(registry.db, inspector, dataset_id=dataset.dataset_id, comparisons=given)

    assert added == (2, 1)
    assert sorted(inspector.inspected) == sorted([digest_of("new"), digest_of("newer")])


async def test_audio_of_another_data_set_is_inspected(registry: Registry):
    other = await registry.dataset(clip("a"), name="other")
    await registry.compare(other.dataset_id, compared("a", "b"))
    dataset, inspector = await create_dataset(registry.db, name="songs"), FakeInspector()

    await add_comparisons(registry.db, inspector, dataset_id=dataset.dataset_id, comparisons=[compared("a", "b")])

    assert sorted(inspector.inspected) == sorted([digest_of("a"), digest_of("b")])


async def test_comparisons_of_no_data_set_are_refused(registry: Registry):
    dataset_id = new_id("dst")

    with pytest.raises(DatasetNotFound):
        await registry.compare(dataset_id, compared("a", "b"))
    with pytest.raises(DatasetNotFound):
        await stored(registry, dataset_id)


async def test_the_same_comparisons_may_be_added_at_once_in_any_order(registry: Registry):
    dataset = await create_dataset(registry.db, name="songs")
    given = [compared("a", "b", prompt=f"song {number}") for number in range(50)]

    both = await asyncio.gather(
        registry.compare(dataset.dataset_id, *given), registry.compare(dataset.dataset_id, *reversed(given))
    )

    assert sum(added for added, _ in both) == sum(duplicates for _, duplicates in both) == 50
    assert len(await stored(registry, dataset.dataset_id)) == 50


@pytest.mark.parametrize("at_once", [3, 4, 5, 11])
async def test_a_long_read_gives_everything_once_and_in_order(registry: Registry, monkeypatch, at_once: int):
    monkeypatch.setattr(store, "AT_ONCE", at_once)
    words = [f"clip {number}" for number in range(8)]
    dataset = await registry.dataset(*[clip(word) for word in words])
    await registry.compare(dataset.dataset_id, *[compared("a", "b", prompt=word) for word in words])

    async with registry.db.connection() as conn:
        samples = await store.select(conn, dataset_id=dataset.dataset_id, min_rating=None)
        comparisons = await comparison_store.select(conn, dataset_id=dataset.dataset_id)

    assert [sample.prompt for sample in samples] == [f"a {word}" for word in words]
    assert [comparison.prompt for comparison in comparisons] == words


async def test_a_full_request_of_long_lists_is_stored_within_seconds(registry: Registry):
    dataset = await create_dataset(registry.db, name="songs")
    words = [f"clip-{number}" for number in range(64)]
    given = [compared(*words[turn % 64 :], *words[: turn % 64], prompt=f"song {turn}") for turn in range(800)]

    async with asyncio.timeout(30):
        added = await registry.compare(dataset.dataset_id, *given)

    assert added == (800, 0)
    assert await registry.count("comparison_clips") == 800 * 64
    async with registry.db.connection() as conn:
        sql = "SELECT count(*) AS n FROM comparison_clips WHERE rank = 1 AND ordinal = 1 AND duration_s = 2.5"
        assert (await fetch_all(conn, sql))[0]["n"] == 800


async def test_a_clip_that_was_only_compared_may_be_rated_later(registry: Registry):
    dataset = await create_dataset(registry.db, name="songs")
    await registry.compare(dataset.dataset_id, compared("a", "b"))

    added = await add_samples(registry.db, FakeInspector(), dataset_id=dataset.dataset_id, samples=[clip("a")])

    async with registry.db.connection() as conn:
        (sample,) = await store.samples(conn, dataset_id=dataset.dataset_id, limit=10)
    assert (added, sample.audio_digest, sample.sample_rate_hz) == ((1, 0), digest_of("a"), 32_000)
