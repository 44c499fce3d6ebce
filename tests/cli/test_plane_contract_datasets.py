"""Data sets as clients rely on them: the real control plane, and the fake that the command line is tested against."""

from __future__ import annotations

import grpc
import pytest

from tests.support.control_plane import fresh, fresh_digest, small_spec
from tests.support.edge import refusal
from tunesmith.v1 import (
    dataset_pb2,
    dataset_pb2_grpc,
    experiment_pb2,
    experiment_pb2_grpc,
    job_spec_pb2,
    run_pb2,
    run_pb2_grpc,
)

NOBODY = "Z" * 26


@pytest.fixture
def datasets(channel: grpc.aio.Channel) -> dataset_pb2_grpc.DatasetServiceStub:
    return dataset_pb2_grpc.DatasetServiceStub(channel)


@pytest.fixture
def songs(datasets):
    """Makes a data set with samples of these (prompt, rating); gives its id and the digests of its clips."""

    async def make(*rated: tuple[str, float]) -> tuple[str, list[str]]:
        wanted = dataset_pb2.CreateDatasetRequest(dataset=dataset_pb2.Dataset(name=fresh("songs")))
        dataset_id = (await datasets.CreateDataset(wanted)).dataset.dataset_id
        clips = [fresh_digest() for _ in rated]
        samples = [
            dataset_pb2.Sample(prompt=prompt, audio_digest=clip, rating=rating)
            for (prompt, rating), clip in zip(rated, clips, strict=True)
        ]
        if samples:
            await datasets.AddSamples(dataset_pb2.AddSamplesRequest(dataset_id=dataset_id, samples=samples))
        return dataset_id, clips

    return make


def comparison(prompt: str, *clips: tuple[str, int]) -> dataset_pb2.Comparison:
    ranked = [dataset_pb2.RankedClip(audio_digest=clip, rank=rank) for clip, rank in clips]
    return dataset_pb2.Comparison(prompt=prompt, clips=ranked)


async def test_what_nobody_has_is_not_found_by_any_call(datasets):
    dataset_id, version_id = f"dst_{NOBODY}", f"dsv_{NOBODY}"
    one = comparison("a", ("1" * 64, 1), ("2" * 64, 2))
    calls = {
        datasets.GetDataset(dataset_pb2.GetDatasetRequest(dataset_id=dataset_id)): "DATASET_NOT_FOUND",
        datasets.ListSamples(dataset_pb2.ListSamplesRequest(dataset_id=dataset_id)): "DATASET_NOT_FOUND",
        datasets.ListComparisons(dataset_pb2.ListComparisonsRequest(dataset_id=dataset_id)): "DATASET_NOT_FOUND",
        datasets.AddComparisons(
            dataset_pb2.AddComparisonsRequest(dataset_id=dataset_id, comparisons=[one])
        ): "DATASET_NOT_FOUND",
        datasets.CreateDatasetVersion(
            dataset_pb2.CreateDatasetVersionRequest(dataset_id=dataset_id, pairs={})
        ): "DATASET_NOT_FOUND",
        datasets.GetDatasetVersion(
            dataset_pb2.GetDatasetVersionRequest(dataset_version_id=version_id)
        ): "DATASET_VERSION_NOT_FOUND",
    }

    for call, reason in calls.items():
        found = await refusal(call)
        assert (found.code, found.reason) == (grpc.StatusCode.NOT_FOUND, reason)


async def test_samples_and_comparisons_are_added_once_and_counted(datasets, songs):
    dataset_id, (one, two) = await songs(("a", 5), ("a", 1))
    same = dataset_pb2.Sample(prompt="a", audio_digest=one, rating=3)
    added = comparison("a", (two, 2), (one, 1))
    request = dataset_pb2.AddComparisonsRequest(
        dataset_id=dataset_id,
        comparisons=[added, comparison("a", (one, 1), (two, 3)), comparison("b", (one, 1), (two, 2))],
    )

    again = await datasets.AddSamples(dataset_pb2.AddSamplesRequest(dataset_id=dataset_id, samples=[same]))
    first, second = await datasets.AddComparisons(request), await datasets.AddComparisons(request)
    counted = (await datasets.GetDataset(dataset_pb2.GetDatasetRequest(dataset_id=dataset_id))).dataset

    assert (again.added_count, again.duplicate_count) == (0, 1)
    assert (first.added_count, first.duplicate_count) == (2, 1)
    assert (second.added_count, second.duplicate_count) == (0, 3)
    assert (counted.sample_count, counted.comparison_count) == (2, 2)


async def test_samples_are_given_back_in_the_order_added_by_pages(datasets, songs):
    dataset_id, (one, two) = await songs(("c", 5), ("a", 1))
    tags = {"rater": "ann", "seed": "7"}
    later = dataset_pb2.Sample(prompt="b", audio_digest=one, rating=2.5, tags=tags)
    await datasets.AddSamples(dataset_pb2.AddSamplesRequest(dataset_id=dataset_id, samples=[later]))

    async def page(**fields: object) -> dataset_pb2.ListSamplesResponse:
        return await datasets.ListSamples(dataset_pb2.ListSamplesRequest(dataset_id=dataset_id, **fields))

    whole, first = await page(), await page(page_size=2)
    second = await page(page_size=2, page_token=first.next_page_token)

    listed = [(sample.prompt, sample.audio_digest, sample.rating) for sample in whole.samples]
    assert listed == [("c", one, 5), ("a", two, 1), ("b", one, 2.5)]
    assert [*first.samples, *second.samples] == list(whole.samples)
    assert not second.next_page_token
    assert whole.samples[2].tags == tags
    assert len({sample.sample_id for sample in whole.samples} - {""}) == 3


async def test_comparisons_are_given_back_best_first_in_the_order_added_by_pages(datasets, songs):
    dataset_id, clips = await songs()
    clips = [fresh_digest() for _ in range(3)]
    wanted = [comparison(prompt, (clips[0], 7), (clips[1], 2), (clips[2], 2)) for prompt in "cab"]
    await datasets.AddComparisons(dataset_pb2.AddComparisonsRequest(dataset_id=dataset_id, comparisons=wanted))

    async def page(**fields: object) -> dataset_pb2.ListComparisonsResponse:
        return await datasets.ListComparisons(dataset_pb2.ListComparisonsRequest(dataset_id=dataset_id, **fields))

    whole, first = await page(), await page(page_size=2)
    second = await page(page_size=2, page_token=first.next_page_token)

    assert [one.prompt for one in whole.comparisons] == ["c", "a", "b"]
    assert [*first.comparisons, *second.comparisons] == list(whole.comparisons)
    assert not second.next_page_token
    ranked = [(clip.audio_digest, clip.rank) for clip in whole.comparisons[0].clips]
    assert ranked == [(clips[1], 1), (clips[2], 1), (clips[0], 2)]


async def test_every_clip_that_is_refused_is_named_and_nothing_is_stored(setting, datasets, songs):
    dataset_id, _ = await songs()
    good, bad = fresh_digest(), fresh_digest()
    await setting.refuse(bad, "the file ends early")
    sample = dataset_pb2.Sample(prompt="a", audio_digest=bad, rating=1)
    compared = [comparison("a", (good, 1), (bad, 2))]

    rated = await refusal(datasets.AddSamples(dataset_pb2.AddSamplesRequest(dataset_id=dataset_id, samples=[sample])))
    ranked = await refusal(
        datasets.AddComparisons(dataset_pb2.AddComparisonsRequest(dataset_id=dataset_id, comparisons=compared))
    )
    after = await datasets.ListComparisons(dataset_pb2.ListComparisonsRequest(dataset_id=dataset_id))

    assert (rated.reason, ranked.reason) == ("SAMPLE_INVALID", "COMPARISON_INVALID")
    assert [path.partition(".")[0] for path in rated.fields] == ["samples[0]"]
    assert [path for path in ranked.fields if path.startswith("comparisons[0].clips[1]")] == list(ranked.fields)
    assert list(after.comparisons) == []


async def test_a_comparison_without_an_order_or_with_a_clip_twice_is_refused(datasets, songs):
    dataset_id, _ = await songs()
    one, two = fresh_digest(), fresh_digest()

    for wrong in (comparison("a", (one, 1), (two, 1)), comparison("a", (one, 1), (one, 2)), comparison("a", (one, 1))):
        request = dataset_pb2.AddComparisonsRequest(dataset_id=dataset_id, comparisons=[wrong])
        assert (await refusal(datasets.AddComparisons(request))).reason == "INVALID_FIELD"


async def test_pairs_and_lists_are_frozen_with_their_counts_and_shown_without_being_stored(datasets, songs):
    dataset_id, (best, _, _, _) = await songs(("a", 5), ("a", 3), ("a", 2.5), ("b", 4))
    said = comparison("b", (best, 2), (fresh_digest(), 1))
    await datasets.AddComparisons(dataset_pb2.AddComparisonsRequest(dataset_id=dataset_id, comparisons=[said]))

    async def freeze(**fields: object) -> dataset_pb2.DatasetVersion:
        request = dataset_pb2.CreateDatasetVersionRequest(dataset_id=dataset_id, **fields)
        return (await datasets.CreateDatasetVersion(request)).dataset_version

    shown = await freeze(pairs={}, validate_only=True)
    pairs, lists = await freeze(pairs={}), await freeze(ranked_lists={"max_list_size": 2})
    listed = await datasets.ListDatasetVersions(dataset_pb2.ListDatasetVersionsRequest(dataset_id=dataset_id))

    assert (shown.dataset_version_id, shown.number) == ("", 0)
    assert shown.derivation == pairs.derivation
    counts = pairs.derivation
    assert (counts.count, counts.prompt_count, counts.from_comparisons_count, counts.tie_count) == (3, 2, 1, 1)
    assert counts.pairs == dataset_pb2.PairSettings(min_rating_gap=1, max_pairs_per_prompt=100)
    assert lists.derivation.ranked_lists.max_list_size == 2
    assert list(listed.dataset_versions) == [lists, pairs]
    assert [version.number for version in listed.dataset_versions] == [2, 1]


async def test_a_version_of_nothing_and_a_lowest_rating_beside_pairs_are_refused(datasets, songs):
    dataset_id, _ = await songs(("a", 5), ("b", 1))

    async def refused(**fields: object) -> str:
        request = dataset_pb2.CreateDatasetVersionRequest(dataset_id=dataset_id, **fields)
        return (await refusal(datasets.CreateDatasetVersion(request))).reason

    assert await refused(pairs={}) == "DATASET_EMPTY"
    assert await refused(ranked_lists={}, validate_only=True) == "DATASET_EMPTY"
    assert await refused(pairs={}, min_rating=3) == "INVALID_FIELD"
    assert await refused(pairs={"min_rating_gap": 0}) == "INVALID_FIELD"


async def test_a_run_is_trained_on_the_newest_version_that_its_kind_takes(setting, channel, datasets, songs):
    dataset_id, _ = await songs(("a", 5), ("a", 1))
    runs, version_ids = run_pb2_grpc.RunServiceStub(channel), []
    for form in ({"pairs": {}}, {}):
        request = dataset_pb2.CreateDatasetVersionRequest(dataset_id=dataset_id, **form)
        version_ids.append((await datasets.CreateDatasetVersion(request)).dataset_version.dataset_version_id)
    experiment_id = await setting.experiment(dataset_id)
    preference = job_spec_pb2.JobSpec(dpo={"adapter": {"base_model": "tiny"}})

    async def trained_on(spec: job_spec_pb2.JobSpec, **fields: object) -> str:
        request = run_pb2.CreateRunRequest(experiment_id=experiment_id, spec=spec, **fields)
        return (await runs.CreateRun(request)).run.dataset_version_id

    assert await trained_on(preference) == await trained_on(preference, validate_only=True) == version_ids[0]
    assert await trained_on(small_spec()) == version_ids[1]


async def test_an_experiment_is_read_by_its_id(setting, channel):
    experiments = experiment_pb2_grpc.ExperimentServiceStub(channel)
    experiment_id = await setting.experiment()

    found = await experiments.GetExperiment(experiment_pb2.GetExperimentRequest(experiment_id=experiment_id))
    unknown = experiments.GetExperiment(experiment_pb2.GetExperimentRequest(experiment_id=f"exp_{NOBODY}"))

    assert found.experiment.experiment_id == experiment_id
    assert (await refusal(unknown)).reason == "EXPERIMENT_NOT_FOUND"
