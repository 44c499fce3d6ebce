"""Versions of pairs and ranked lists: what follows from a data set, frozen for ever, and what training takes of it."""

from __future__ import annotations

import asyncio
import hashlib
import json
import threading
from typing import Any

import pytest

from control_plane.datasets import derive, freeze, store, version_store
from control_plane.datasets.commands import add_samples, create_dataset, create_version, delete_version
from control_plane.datasets.model import DatasetVersion, Form
from control_plane.errors import DatasetEmpty, DatasetNotFound, DatasetVersionInUse, DatasetVersionUnsuitable
from control_plane.ids import new_id
from control_plane.runs.commands import create_run
from tests.support.fakes import FakeInspector
from tests.support.registry import BASE_MODEL, Registry, clip, compared, digest_of, spec_of, supervised
from tunesmith.errors import InvalidField
from tunesmith.v1 import dataset_pb2, job_spec_pb2

SONGS = (
    clip("bad", rating=1, prompt="a song"),
    clip("good", rating=4, prompt="a song"),
    clip("best", rating=5, prompt="a song"),
    clip("nearly best", rating=4.5, prompt="a song"),
    clip("alone", rating=3, prompt="another"),
)


def pairs(**settings: Any) -> dataset_pb2.Derivation:
    return dataset_pb2.Derivation(pairs=dataset_pb2.PairSettings(**settings))


def ranked_lists(**settings: Any) -> dataset_pb2.Derivation:
    return dataset_pb2.Derivation(ranked_lists=dataset_pb2.RankedListSettings(**settings))


def trained(kind: str) -> job_spec_pb2.JobSpec:
    return spec_of(kind, adapter={"base_model": BASE_MODEL})


async def frozen(registry: Registry, dataset_id: str, wanted: dataset_pb2.Derivation) -> DatasetVersion:
    return await create_version(registry.db, registry.blobs, dataset_id=dataset_id, wanted=wanted)


def lines(registry: Registry, version: DatasetVersion) -> list[list[str]]:
    """The digests of each line, best first."""
    rows = [json.loads(line) for line in registry.blobs.stored[version.digest].splitlines()]
    return [[each["audio_digest"] for each in row["clips"]] for row in rows]


async def test_pairs_export_with_sorted_keys_and_measured_durations(registry: Registry):
    dataset = await registry.dataset(clip("ä", rating=2, prompt="süß"), clip("b", rating=4, prompt="süß"))
    await registry.compare(dataset.dataset_id, compared("c", "b", prompt="süß"))

    version = await frozen(registry, dataset.dataset_id, pairs())

    jsonl = registry.blobs.stored[version.digest]
    assert jsonl.decode() == (
        f'{{"clips":[{{"audio_digest":"{digest_of("c")}","duration_s":2.5,"rank":1}},'
        f'{{"audio_digest":"{digest_of("b")}","duration_s":2.5,"rank":2}}],"prompt":"süß"}}\n'
        f'{{"clips":[{{"audio_digest":"{digest_of("b")}","duration_s":2.5,"rank":1}},'
        f'{{"audio_digest":"{digest_of("ä")}","duration_s":2.5,"rank":2}}],"prompt":"süß"}}\n'
    )
    assert (version.digest, version.size_bytes) == (hashlib.sha256(jsonl).hexdigest(), len(jsonl))


async def test_a_version_of_pairs_keeps_its_settings_its_counts_and_the_samples_it_came_from(registry: Registry):
    dataset = await registry.dataset(*SONGS)
    await registry.compare(dataset.dataset_id, compared("good", "alone", prompt="another"))

    version = await frozen(registry, dataset.dataset_id, pairs(max_pairs_per_prompt=2))

    wanted = pairs(min_rating_gap=1, max_pairs_per_prompt=2)
    wanted.count, wanted.prompt_count, wanted.from_comparisons_count = 3, 2, 1
    wanted.tie_count, wanted.capped_count = 2, 2
    assert version.derivation == wanted
    assert (version.form, version.sample_count, version.min_rating) == (Form.PAIRS, 5, None)
    async with registry.db.connection() as conn:
        assert await store.get_version(conn, version.dataset_version_id) == version
        found = await store.version_samples(conn, dataset_version_id=version.dataset_version_id, limit=10)
    assert [sample.audio_digest for sample in found] == [sample.audio_digest for sample in SONGS]


async def test_ranked_lists_are_frozen_best_first(registry: Registry):
    dataset = await registry.dataset(*SONGS)

    version = await frozen(registry, dataset.dataset_id, ranked_lists())

    (row,) = [json.loads(line) for line in registry.blobs.stored[version.digest].splitlines()]
    ranks = {each["audio_digest"]: each["rank"] for each in row["clips"]}
    assert ranks == {digest_of("best"): 1, digest_of("nearly best"): 1, digest_of("good"): 2, digest_of("bad"): 3}
    assert version.form is Form.RANKED_LISTS and version.derivation is not None
    assert version.derivation.ranked_lists.max_list_size == 8


async def test_the_same_data_gives_the_same_bytes_whatever_was_added_since(registry: Registry):
    dataset = await registry.dataset(*SONGS)
    first = await frozen(registry, dataset.dataset_id, pairs())
    again = await frozen(registry, dataset.dataset_id, pairs())

    await registry.compare(dataset.dataset_id, compared("late", "later"))
    later = await frozen(registry, dataset.dataset_id, pairs())

    assert (first.digest, again.number, later.number) == (again.digest, 2, 3)
    assert [digest_of("late"), digest_of("later")] in lines(registry, later)
    assert [digest_of("late"), digest_of("later")] not in lines(registry, first)


async def test_a_rehearsed_version_shows_what_it_would_hold_and_stores_nothing(registry: Registry):
    dataset = await registry.dataset(*SONGS)

    shown = await create_version(
        registry.db, registry.blobs, dataset_id=dataset.dataset_id, wanted=pairs(), validate_only=True
    )

    assert (shown.dataset_version_id, shown.number, shown.create_time) == ("", 0, None)
    assert not registry.blobs.stored and await registry.count("dataset_versions") == 0
    made = await frozen(registry, dataset.dataset_id, pairs())
    assert (made.digest, made.size_bytes, made.derivation) == (shown.digest, shown.size_bytes, shown.derivation)
    assert (made.number, made.sample_count) == (1, shown.sample_count)


@pytest.mark.parametrize(
    ("samples", "wanted", "said"),
    [
        ((), pairs(), "no pairs follow: there are no ratings and no comparisons; add rated clips, or compare clips"),
        (
            SONGS[3:],
            pairs(),
            "no pairs follow: none of the 2 rated clips shares its prompt with another; rate more clips of",
        ),
        (SONGS[1:4], pairs(min_rating_gap=2), "no pairs follow: 3 ties; lower min_rating_gap from 2 to 1"),
        (SONGS[1:3], ranked_lists(min_rating_gap=1.5), "no ranked lists follow: 1 tie; lower min_rating_gap from 1.5"),
        (
            (clip("a", prompt="p"), clip("b", prompt="p")),
            pairs(),
            "1 tie, all between equal ratings; rate the clips apart, or compare them",
        ),
    ],
)
async def test_where_nothing_follows_it_is_said_why_and_what_would_help(registry: Registry, samples, wanted, said):
    dataset = await create_dataset(registry.db, name="songs")
    await add_samples(registry.db, FakeInspector(), dataset_id=dataset.dataset_id, samples=samples)

    with pytest.raises(DatasetEmpty) as caught:
        await frozen(registry, dataset.dataset_id, wanted)

    assert said in caught.value.message
    assert await registry.count("dataset_versions") == 0 and not registry.blobs.stored


@pytest.mark.parametrize(
    ("low", "high", "advised"), [(3.1, 3.4, "0.3"), (1, 5 / 3, "0.666666667"), (1, 11 / 3, "2.666666667")]
)
async def test_what_is_advised_where_nothing_follows_helps(registry: Registry, low, high, advised):
    dataset = await registry.dataset(clip("a", rating=low, prompt="p"), clip("b", rating=high, prompt="p"))
    with pytest.raises(DatasetEmpty, match=rf"lower min_rating_gap from 3 to {advised}$"):
        await frozen(registry, dataset.dataset_id, pairs(min_rating_gap=3))

    version = await frozen(registry, dataset.dataset_id, pairs(min_rating_gap=float(advised)))

    assert lines(registry, version) == [[digest_of("b"), digest_of("a")]]


async def test_a_rating_threshold_is_not_for_what_is_derived(registry: Registry):
    dataset = await registry.dataset(*SONGS)

    with pytest.raises(InvalidField, match="min_rating: not with pairs, which need the clips that are not liked, too"):
        await create_version(registry.db, registry.blobs, dataset_id=dataset.dataset_id, min_rating=3, wanted=pairs())
    with pytest.raises(InvalidField, match=r"pairs\.min_rating_gap"):
        await frozen(registry, dataset.dataset_id, pairs(min_rating_gap=9))
    with pytest.raises(DatasetNotFound):
        await frozen(registry, new_id("dst"), pairs())


async def test_other_calls_are_answered_while_pairs_are_derived(registry: Registry, monkeypatch: pytest.MonkeyPatch):
    dataset = await registry.dataset(*SONGS)
    begun, may_end, there = threading.Event(), threading.Event(), derive.derive

    def slow(*given: Any) -> Any:
        begun.set()
        assert may_end.wait(20), "the loop was blocked, so nobody could say go on"
        return there(*given)

    monkeypatch.setattr(freeze, "derive", slow)
    freezing = asyncio.create_task(frozen(registry, dataset.dataset_id, pairs()))
    await asyncio.to_thread(begun.wait, 20)
    async with registry.db.connection() as conn:
        answered = await store.get(conn, dataset.dataset_id)
    may_end.set()

    assert (answered.name, (await freezing).form) == ("clips", Form.PAIRS)


@pytest.mark.parametrize(
    ("kind", "takes"),
    [
        ("supervised", {Form.RATED_CLIPS}),
        ("dpo", {Form.PAIRS}),
        ("ranking", {Form.PAIRS, Form.RANKED_LISTS}),
    ],
)
async def test_a_kind_of_training_takes_versions_that_are_made_for_it(registry: Registry, kind: str, takes: set[Form]):
    experiment = await registry.experiment(samples=SONGS)
    of = {"dataset_id": str(experiment.dataset_id)}
    versions = [
        await create_version(registry.db, registry.blobs, **of, wanted=wanted)
        for wanted in (None, pairs(), ranked_lists())
    ]
    taken = set()

    for version in versions:
        try:
            await registry.queued(experiment, spec=trained(kind), dataset_version_id=version.dataset_version_id)
            taken.add(version.form)
        except DatasetVersionUnsuitable as error:
            assert error.message.startswith(f"the version holds {version.form}, and {kind} takes ")
            assert "freeze some with `tunesmith dataset version create first-clips" in error.message

    assert taken == takes
    assert await registry.count("runs") == len(takes)


@pytest.mark.parametrize(
    ("kind", "command"),
    [("dpo", "version create first-clips --pairs`"), ("ranking", "version create first-clips --ranked-lists`")],
)
async def test_an_unsuitable_version_is_refused_with_the_command_that_makes_a_suitable_one(
    registry: Registry, kind: str, command: str
):
    experiment = await registry.experiment(samples=SONGS)
    rated = await create_version(registry.db, registry.blobs, dataset_id=str(experiment.dataset_id))

    with pytest.raises(DatasetVersionUnsuitable) as caught:
        await registry.queued(experiment, spec=trained(kind), dataset_version_id=rated.dataset_version_id)

    assert caught.value.message.endswith(command)


async def test_a_run_takes_the_latest_version_of_what_its_kind_takes_first(registry: Registry):
    experiment = await registry.experiment(samples=SONGS)
    dataset_id = str(experiment.dataset_id)
    rated = await create_version(registry.db, registry.blobs, dataset_id=dataset_id)
    await frozen(registry, dataset_id, ranked_lists())
    listed = await frozen(registry, dataset_id, ranked_lists(max_list_size=2))
    paired = await frozen(registry, dataset_id, pairs(min_rating_gap=3))  # ranking would take them, if named

    runs = [await registry.queued(experiment, spec=trained(kind)) for kind in ("supervised", "dpo", "ranking")]

    chosen = [run.dataset_version_id for run in runs]
    assert chosen == [rated.dataset_version_id, paired.dataset_version_id, listed.dataset_version_id]


@pytest.mark.parametrize(("kind", "form"), [("dpo", Form.PAIRS), ("ranking", Form.RANKED_LISTS)])
async def test_where_no_version_fits_one_is_derived_by_the_default_settings(registry: Registry, kind: str, form: Form):
    experiment = await registry.experiment(samples=SONGS)
    await create_version(registry.db, registry.blobs, dataset_id=str(experiment.dataset_id))

    shown = await registry.queued(experiment, spec=trained(kind), validate_only=True)
    first = await registry.queued(experiment, spec=trained(kind))
    second = await registry.queued(experiment, spec=trained(kind))

    assert shown.dataset_version_id is None and first.dataset_version_id == second.dataset_version_id
    async with registry.db.connection() as conn:
        version = await store.get_version(conn, str(first.dataset_version_id))
    assert (version.form, version.number) == (form, 2) and version.digest in registry.blobs.stored


async def test_a_run_on_pairs_is_refused_where_none_follow_and_where_a_threshold_is_given(registry: Registry):
    experiment = await registry.experiment()

    with pytest.raises(DatasetEmpty, match="no pairs follow: none of the 3 rated clips"):
        await registry.queued(experiment, spec=trained("dpo"))
    with pytest.raises(InvalidField, match="min_rating: dpo takes pairs, which need the clips that are not liked, too"):
        await registry.queued(experiment, spec=trained("dpo"), min_rating=3)
    assert await registry.count("runs") == 0


async def test_a_threshold_does_not_find_what_was_derived(registry: Registry):
    experiment = await registry.experiment(samples=SONGS)
    derived = await frozen(registry, str(experiment.dataset_id), pairs())

    async with registry.db.connection() as conn:
        found = await version_store.equal(conn, dataset_id=derived.dataset_id, min_rating=None, digest=derived.digest)

    assert found is None


async def test_a_version_of_pairs_in_use_stays(registry: Registry):
    experiment = await registry.experiment(samples=SONGS)
    run = await create_run(registry.db, registry.blobs, experiment_id=experiment.experiment_id, spec=trained("dpo"))

    with pytest.raises(DatasetVersionInUse, match=run.run_id):
        await delete_version(registry.db, dataset_version_id=str(run.dataset_version_id))

    unused = await frozen(registry, str(experiment.dataset_id), pairs())
    await delete_version(registry.db, dataset_version_id=unused.dataset_version_id)
    assert await registry.count("comparisons") == 0 and await registry.count("dataset_versions") == 1
    assert (await registry.queued(experiment, spec=supervised())).dataset_version_id != run.dataset_version_id
