"""Preferences on the wire: comparisons, versions that are derived, and trainings that start from an adapter."""

from __future__ import annotations

import grpc
import pytest

from tests.support.control_plane import Plane, fresh, fresh_digest
from tests.support.edge import refusal
from tunesmith.v1 import adapter_pb2, dataset_pb2, job_spec_pb2, run_pb2


def ordered(*clips: tuple[str, int], prompt: str = "a song") -> dataset_pb2.Comparison:
    ranked = [dataset_pb2.RankedClip(audio_digest=digest, rank=rank) for digest, rank in clips]
    return dataset_pb2.Comparison(prompt=prompt, clips=ranked)


def addition(dataset_id: str, *comparisons: dataset_pb2.Comparison) -> dataset_pb2.AddComparisonsRequest:
    return dataset_pb2.AddComparisonsRequest(dataset_id=dataset_id, comparisons=comparisons)


def freezing(dataset_id: str, **fields) -> dataset_pb2.CreateDatasetVersionRequest:
    return dataset_pb2.CreateDatasetVersionRequest(dataset_id=dataset_id, **fields)


async def new_songs(plane: Plane, *ratings: float) -> str:
    """A data set of clips that share a prompt, one of each rating; its id."""
    dataset_id = await plane.new_dataset()
    samples = [dataset_pb2.Sample(prompt="a song", audio_digest=fresh_digest(), rating=rating) for rating in ratings]
    await plane.datasets.AddSamples(dataset_pb2.AddSamplesRequest(dataset_id=dataset_id, samples=samples))
    return dataset_id


async def frozen(plane: Plane, request: dataset_pb2.CreateDatasetVersionRequest) -> dataset_pb2.DatasetVersion:
    return (await plane.datasets.CreateDatasetVersion(request)).dataset_version


async def test_comparisons_are_added_all_or_none_and_every_bad_clip_is_named(plane: Plane):
    dataset_id = await plane.new_dataset()
    good, torn = fresh_digest(), fresh_digest()
    plane.inspector.refused[torn] = "the file ends early; export it again"

    request = addition(dataset_id, ordered((good, 1), (fresh_digest(), 2)), ordered((good, 1), (torn, 2)))
    refused = await refusal(plane.datasets.AddComparisons(request))

    assert (refused.code, refused.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "COMPARISON_INVALID")
    assert dict(refused.fields) == {"comparisons[1].clips[1].audio_digest": "the file ends early; export it again"}
    found = await plane.datasets.GetDataset(dataset_pb2.GetDatasetRequest(dataset_id=dataset_id))
    assert found.dataset.comparison_count == 0


@pytest.mark.parametrize(
    ("clips", "field", "said"),
    [
        ([("a", 1)], "comparisons[0].clips", "at least 2"),
        ([("a", 1), ("a", 2)], "comparisons[0]", "a clip stands in a comparison once; remove the other"),
        (
            [("a", 2), ("b", 2)],
            "comparisons[0]",
            "every clip is tied, so nothing is preferred; give at least two ranks",
        ),
        ([("a", 0), ("b", 2)], "comparisons[0].clips[0].rank", "greater than or equal to 1"),
        ([(f"{clip:x}", clip + 1) for clip in range(65)], "comparisons[0].clips", "no more than 64"),
    ],
)
async def test_a_comparison_that_says_nothing_is_refused_by_its_field(plane: Plane, clips, field, said):
    given = ordered(*[(name.rjust(64, "0"), rank) for name, rank in clips])

    refused = await refusal(plane.datasets.AddComparisons(addition(await plane.new_dataset(), given)))

    assert refused.reason == "INVALID_FIELD" and said in refused.fields[field]


async def test_the_same_comparison_is_counted_as_a_duplicate(plane: Plane):
    dataset_id = await plane.new_dataset()
    best, worst = fresh_digest(), fresh_digest()

    first = await plane.datasets.AddComparisons(addition(dataset_id, ordered((best, 1), (worst, 2))))
    again = await plane.datasets.AddComparisons(addition(dataset_id, ordered((worst, 64), (best, 3))))

    assert (first.added_count, first.duplicate_count) == (1, 0)
    assert (again.added_count, again.duplicate_count) == (0, 1)


async def test_comparisons_come_back_best_first_in_the_order_they_were_added(plane: Plane):
    dataset_id, digests = await plane.new_dataset(), [fresh_digest() for _ in range(5)]
    given = [ordered((digests[n], 9), (digests[n + 1], 4), prompt=f"song {n}") for n in range(4)]
    await plane.datasets.AddComparisons(addition(dataset_id, *given))

    seen, token = [], ""
    while not seen or token:
        request = dataset_pb2.ListComparisonsRequest(dataset_id=dataset_id, page_size=3, page_token=token)
        page = await plane.datasets.ListComparisons(request)
        seen += page.comparisons
        token = page.next_page_token

    assert [comparison.prompt for comparison in seen] == [f"song {n}" for n in range(4)]
    clips = [[(clip.audio_digest, clip.rank, clip.duration_s) for clip in one.clips] for one in seen]
    assert clips == [[(digests[n + 1], 1, 2.5), (digests[n], 2, 2.5)] for n in range(4)]
    assert all(one.comparison_id.startswith("cmp_") and one.HasField("create_time") for one in seen)
    found = await plane.datasets.GetDataset(dataset_pb2.GetDatasetRequest(dataset_id=dataset_id))
    assert (found.dataset.comparison_count, found.dataset.sample_count) == (4, 0)


async def test_a_version_of_pairs_tells_the_settings_in_force_and_what_came_of_them(plane: Plane):
    dataset_id = await new_songs(plane, 1, 3, 3.5)

    version = await frozen(plane, freezing(dataset_id, pairs=dataset_pb2.PairSettings()))

    derivation = version.derivation
    assert (derivation.pairs.min_rating_gap, derivation.pairs.max_pairs_per_prompt) == (1, 100)
    assert (derivation.count, derivation.prompt_count, derivation.tie_count) == (2, 1, 1)
    assert (version.sample_count, version.HasField("min_rating")) == (3, False)
    stored = (await plane.blobs.get_bytes(version.digest, 10_000)).splitlines()
    assert len(stored) == 2 and all(line.startswith(b'{"clips":[{"audio_digest":"') for line in stored)
    request = dataset_pb2.GetDatasetVersionRequest(dataset_version_id=version.dataset_version_id)
    assert (await plane.datasets.GetDatasetVersion(request)).dataset_version == version


async def test_a_version_of_rated_clips_has_no_derivation(plane: Plane):
    version = await frozen(plane, freezing(await new_songs(plane, 1, 5)))

    assert not version.HasField("derivation")


async def test_a_rehearsed_version_is_shown_without_ids_and_not_stored(plane: Plane):
    dataset_id, request_id = await new_songs(plane, 1, 5), fresh("request")
    lists = dataset_pb2.RankedListSettings(max_list_size=4)

    shown = await frozen(plane, freezing(dataset_id, ranked_lists=lists, validate_only=True, request_id=request_id))

    assert (shown.dataset_version_id, shown.number, shown.derivation.count) == ("", 0, 1)
    assert await plane.blobs.missing([shown.digest]) == [shown.digest]
    request = dataset_pb2.ListDatasetVersionsRequest(dataset_id=dataset_id)
    assert not (await plane.datasets.ListDatasetVersions(request)).dataset_versions
    made = await frozen(plane, freezing(dataset_id, ranked_lists=lists, request_id=request_id))
    assert made.dataset_version_id and made.digest == shown.digest


async def test_where_no_pairs_follow_the_refusal_says_what_would_help(plane: Plane):
    dataset_id = await new_songs(plane, 3, 3.5)

    refused = await refusal(plane.datasets.CreateDatasetVersion(freezing(dataset_id, pairs=dataset_pb2.PairSettings())))

    assert (refused.code, refused.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "DATASET_EMPTY")
    assert refused.text == "no pairs follow: 1 tie; lower min_rating_gap from 1 to 0.5"


async def test_a_rating_threshold_beside_pairs_is_refused_by_its_field(plane: Plane):
    request = freezing(await new_songs(plane, 1, 5), min_rating=3, pairs=dataset_pb2.PairSettings())

    refused = await refusal(plane.datasets.CreateDatasetVersion(request))

    assert refused.reason == "INVALID_FIELD" and list(refused.fields) == ["min_rating"]


async def test_a_version_that_a_training_cannot_take_is_refused_with_what_it_holds(plane: Plane):
    dataset_id = await new_songs(plane, 1, 5)
    experiment = await plane.new_experiment(dataset_id=dataset_id)
    paired = await frozen(plane, freezing(dataset_id, pairs=dataset_pb2.PairSettings()))

    request = run_pb2.CreateRunRequest(
        experiment_id=experiment.experiment_id, dataset_version_id=paired.dataset_version_id
    )
    refused = await refusal(plane.runs.CreateRun(request))

    assert (refused.code, refused.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "DATASET_VERSION_UNSUITABLE")
    assert "holds pairs, and supervised takes rated clips; freeze some with" in refused.text
    assert "`tunesmith dataset version create clips-" in refused.text
    assert refused.info.metadata["holds"] == "pairs"


async def test_a_training_that_starts_from_an_adapter_takes_over_its_shape(plane: Plane):
    experiment = await plane.new_experiment(dataset_id=await new_songs(plane, 1, 5))
    spec = job_spec_pb2.JobSpec(supervised=job_spec_pb2.SupervisedSpec(adapter=job_spec_pb2.AdapterSettings(lora_r=4)))
    parent = await plane.finish((await plane.new_run(experiment.experiment_id, spec=spec)).run_id, {"a": b"x"})
    starting = job_spec_pb2.JobSpec(
        dpo=job_spec_pb2.DpoSpec(adapter=job_spec_pb2.AdapterSettings(start_adapter_id=parent))
    )

    run = await plane.new_run(experiment.experiment_id, spec=starting)
    child = await plane.finish(run.run_id, {"a": b"y"})

    assert (run.spec.dpo.adapter.base_model, run.spec.dpo.adapter.lora_r) == ("tiny", 4)
    adapter = (await plane.adapters.GetAdapter(adapter_pb2.GetAdapterRequest(adapter_id=child))).adapter
    assert adapter.start_adapter_id == parent
    found = await plane.adapters.ListAdapters(adapter_pb2.ListAdaptersRequest(start_adapter_id=parent))
    assert [each.adapter_id for each in found.adapters] == [child]


@pytest.mark.parametrize(
    ("settings", "code", "reason"),
    [
        ({"lora_r": 32}, grpc.StatusCode.INVALID_ARGUMENT, "INVALID_FIELD"),
        ({"base_model": "another"}, grpc.StatusCode.FAILED_PRECONDITION, "START_ADAPTER_UNSUITABLE"),
        ({"start_adapter_id": "adp_" + "0" * 26}, grpc.StatusCode.NOT_FOUND, "ADAPTER_NOT_FOUND"),
        ({"start_adapter_id": "first@1"}, grpc.StatusCode.INVALID_ARGUMENT, "INVALID_FIELD"),
    ],
)
async def test_an_adapter_that_cannot_be_started_from_is_refused(plane: Plane, settings, code, reason):
    experiment = await plane.new_experiment(dataset_id=await new_songs(plane, 1, 5))
    parent = await plane.finish((await plane.new_run(experiment.experiment_id)).run_id, {"a": b"x"})
    given = job_spec_pb2.AdapterSettings(**{"start_adapter_id": parent, **settings})

    request = run_pb2.CreateRunRequest(
        experiment_id=experiment.experiment_id, spec=job_spec_pb2.JobSpec(dpo=job_spec_pb2.DpoSpec(adapter=given))
    )
    refused = await refusal(plane.runs.CreateRun(request))

    assert (refused.code, refused.reason) == (code, reason)
