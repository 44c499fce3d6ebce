"""Creates, updates and moves: repeated without a second effect, guarded by etags, refused by state."""

from __future__ import annotations

import asyncio

import grpc
import pytest
from google.protobuf.field_mask_pb2 import FieldMask

from tests.support.control_plane import Plane, fresh, fresh_digest, small_spec
from tests.support.edge import refusal
from tunesmith.v1 import adapter_pb2, dataset_pb2, experiment_pb2, job_spec_pb2, node_pb2, run_pb2


def creation(name: str, request_id: str | None = None, **fields) -> experiment_pb2.CreateExperimentRequest:
    return experiment_pb2.CreateExperimentRequest(
        experiment=experiment_pb2.Experiment(name=name, **fields), request_id=request_id
    )


def update(experiment: experiment_pb2.Experiment, *paths: str) -> experiment_pb2.UpdateExperimentRequest:
    return experiment_pb2.UpdateExperimentRequest(experiment=experiment, update_mask=FieldMask(paths=paths))


async def test_a_repeated_create_gives_the_first_answer(plane: Plane):
    request = creation(fresh("trial"), fresh("request"))

    answers = await asyncio.gather(*(plane.experiments.CreateExperiment(request) for _ in range(4)))

    assert len({answer.experiment.experiment_id for answer in answers}) == 1


@pytest.mark.parametrize("method", ["dataset", "version", "run", "resume"])
async def test_every_create_can_be_repeated(plane: Plane, method):
    request_id = fresh("request")
    dataset_id = await plane.new_dataset(3)
    run = await plane.new_run((await plane.new_experiment(dataset_id=dataset_id)).experiment_id)
    ended_run_id = await plane.new_cancelled_run(checkpoint_step=5) if method == "resume" else ""

    async def call() -> str:
        if method == "dataset":
            given = dataset_pb2.Dataset(name=f"d-{request_id}")
            request = dataset_pb2.CreateDatasetRequest(dataset=given, request_id=request_id)
            return (await plane.datasets.CreateDataset(request)).dataset.dataset_id
        if method == "version":
            request = dataset_pb2.CreateDatasetVersionRequest(dataset_id=dataset_id, request_id=request_id)
            return (await plane.datasets.CreateDatasetVersion(request)).dataset_version.dataset_version_id
        if method == "run":
            request = run_pb2.CreateRunRequest(experiment_id=run.experiment_id, request_id=request_id)
            return (await plane.runs.CreateRun(request)).run.run_id
        request = run_pb2.ResumeRunRequest(run_id=ended_run_id, request_id=request_id)
        return (await plane.runs.ResumeRun(request)).run.run_id

    assert await call() == await call()


async def test_a_request_id_with_another_body_is_refused(plane: Plane):
    request_id = fresh("request")
    await plane.experiments.CreateExperiment(creation(fresh("trial"), request_id))

    refused = await refusal(plane.experiments.CreateExperiment(creation(fresh("trial"), request_id)))

    assert (refused.code, refused.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "REQUEST_ID_REUSED")


async def test_a_name_is_taken_once(plane: Plane):
    experiment = await plane.new_experiment()

    refused = await refusal(plane.experiments.CreateExperiment(creation(experiment.name)))

    assert (refused.code, refused.reason) == (grpc.StatusCode.ALREADY_EXISTS, "NAME_TAKEN")


@pytest.mark.parametrize("name", ["../etc", "a/b", "A", "", "a" * 64, "-a", "a b", "ä"])
async def test_a_path_is_no_name(plane: Plane, name):
    refused = await refusal(plane.experiments.CreateExperiment(creation(name)))

    assert refused.reason == "INVALID_FIELD" and list(refused.fields) == ["experiment.name"]


async def test_an_update_changes_what_its_mask_names_and_nothing_else(plane: Plane):
    before = await plane.new_experiment()
    given = experiment_pb2.Experiment(
        experiment_id=before.experiment_id, description="new", labels={"ignored": "x"}, etag=before.etag
    )

    after = (await plane.experiments.UpdateExperiment(update(given, "description"))).experiment

    assert (after.description, dict(after.labels), after.name) == ("new", {}, before.name)
    assert after.default_spec == before.default_spec and after.etag != before.etag


async def test_an_update_can_clear_a_field(plane: Plane):
    before = await plane.new_experiment()
    given = experiment_pb2.Experiment(experiment_id=before.experiment_id)

    after = (await plane.experiments.UpdateExperiment(update(given, "*"))).experiment

    assert not after.dataset_id and not after.HasField("default_spec")


async def test_a_stale_etag_is_aborted(plane: Plane):
    before = await plane.new_experiment()
    given = experiment_pb2.Experiment(experiment_id=before.experiment_id, description="mine", etag=before.etag)
    await plane.experiments.UpdateExperiment(update(given, "description"))

    refused = await refusal(plane.experiments.UpdateExperiment(update(given, "description")))

    assert (refused.code, refused.reason) == (grpc.StatusCode.ABORTED, "ETAG_MISMATCH")


@pytest.mark.parametrize("paths", [(), ("name",), ("description", "etag"), ("labels.x",), ("nonsense",), ("",)])
async def test_a_mask_names_what_can_be_changed(plane: Plane, paths):
    given = experiment_pb2.Experiment(experiment_id=(await plane.new_experiment()).experiment_id, name="other")

    refused = await refusal(plane.experiments.UpdateExperiment(update(given, *paths)))

    assert refused.reason == "INVALID_UPDATE_MASK"
    assert "description, dataset_id, default_spec, labels" in refused.text


async def test_the_new_values_of_an_update_obey_the_contract(plane: Plane):
    given = experiment_pb2.Experiment(
        experiment_id=(await plane.new_experiment()).experiment_id, description="x" * 2001, labels={"UPPER": ""}
    )

    refused = await refusal(plane.experiments.UpdateExperiment(update(given, "description", "labels")))

    assert sorted(refused.fields) == ["experiment.description", 'experiment.labels["UPPER"]']


async def test_a_run_takes_its_settings_from_its_experiment_and_nothing_is_left_open(plane: Plane):
    experiment = await plane.new_experiment()
    spec = job_spec_pb2.JobSpec()
    spec.supervised.training.epochs = 3

    run = await plane.new_run(experiment.experiment_id, spec=spec, labels={"a": "b"}, display_name="first")

    assert run.spec.supervised.training.epochs == 3
    assert run.spec.supervised.adapter.base_model == "tiny" and run.spec.supervised.HasField("prompt_dropout")
    assert run.state == run_pb2.RUN_STATE_QUEUED and run.dataset_version_id and dict(run.labels) == {"a": "b"}


async def test_a_setting_out_of_range_is_refused_by_its_path(plane: Plane):
    spec = small_spec()
    spec.supervised.training.epochs = 0
    experiment = await plane.new_experiment()

    request = run_pb2.CreateRunRequest(experiment_id=experiment.experiment_id, spec=spec)
    refused = await refusal(plane.runs.CreateRun(request))

    assert list(refused.fields) == ["spec.supervised.training.epochs"]
    assert not (await plane.runs.ListRuns(run_pb2.ListRunsRequest(experiment_id=experiment.experiment_id))).runs


async def test_a_rehearsed_run_is_shown_and_not_stored(plane: Plane):
    experiment = await plane.new_experiment()

    run = await plane.new_run(experiment.experiment_id, validate_only=True)

    assert not run.run_id and run.spec.supervised.training.epochs > 0
    assert not (await plane.runs.ListRuns(run_pb2.ListRunsRequest(experiment_id=experiment.experiment_id))).runs


async def test_a_rating_threshold_freezes_a_version(plane: Plane):
    experiment = await plane.new_experiment(dataset_id=await plane.new_dataset(1, 4, 5))

    run = await plane.new_run(experiment.experiment_id, min_rating=4)

    request = dataset_pb2.GetDatasetVersionRequest(dataset_version_id=run.dataset_version_id)
    version = (await plane.datasets.GetDatasetVersion(request)).dataset_version
    assert (version.sample_count, version.min_rating) == (2, 4)


async def test_a_run_that_has_ended_cannot_be_cancelled(plane: Plane):
    run = await plane.new_run()
    await plane.finish(run.run_id, {"adapter_model.safetensors": b"x"})

    refused = await refusal(plane.runs.CancelRun(run_pb2.CancelRunRequest(run_id=run.run_id)))

    assert (refused.code, refused.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "RUN_FINISHED")
    assert refused.info.metadata["state"] == "succeeded"


async def test_a_queued_run_cannot_be_resumed(plane: Plane):
    run = await plane.new_run()

    refused = await refusal(plane.runs.ResumeRun(run_pb2.ResumeRunRequest(run_id=run.run_id)))

    assert refused.reason == "RUN_NOT_RESUMABLE"


async def test_a_version_in_use_stays_and_says_who_uses_it(plane: Plane):
    run = await plane.new_run()
    request = dataset_pb2.DeleteDatasetVersionRequest(dataset_version_id=run.dataset_version_id)

    refused = await refusal(plane.datasets.DeleteDatasetVersion(request))

    assert refused.reason == "DATASET_VERSION_IN_USE" and run.run_id in refused.text


async def test_a_version_that_nothing_uses_can_be_deleted(plane: Plane):
    dataset_id = await plane.new_dataset(3)
    request = dataset_pb2.CreateDatasetVersionRequest(dataset_id=dataset_id)
    version = (await plane.datasets.CreateDatasetVersion(request)).dataset_version

    named = {"dataset_version_id": version.dataset_version_id}
    await plane.datasets.DeleteDatasetVersion(dataset_pb2.DeleteDatasetVersionRequest(**named))

    gone = await refusal(plane.datasets.GetDatasetVersion(dataset_pb2.GetDatasetVersionRequest(**named)))
    assert gone.reason == "DATASET_VERSION_NOT_FOUND"


async def test_clips_are_added_all_or_none_and_every_bad_one_is_named(plane: Plane):
    dataset_id = await plane.new_dataset()
    digests = [fresh_digest() for _ in range(4)]
    plane.inspector.refused |= {digests[1]: "the file ends early; export it again", digests[3]: "silence"}
    samples = [dataset_pb2.Sample(prompt="a", audio_digest=digest, rating=3) for digest in digests]

    request = dataset_pb2.AddSamplesRequest(dataset_id=dataset_id, samples=samples)
    refused = await refusal(plane.datasets.AddSamples(request))

    assert refused.reason == "SAMPLE_INVALID"
    assert sorted(refused.fields) == ["samples[1].audio_digest", "samples[3].audio_digest"]
    found = await plane.datasets.GetDataset(dataset_pb2.GetDatasetRequest(dataset_id=dataset_id))
    assert found.dataset.sample_count == 0


async def test_the_same_clip_with_the_same_prompt_is_counted_as_a_duplicate(plane: Plane):
    dataset_id = await plane.new_dataset()
    sample = dataset_pb2.Sample(prompt="a", audio_digest=fresh_digest(), rating=3, tags={"genre": "x"})
    request = dataset_pb2.AddSamplesRequest(dataset_id=dataset_id, samples=[sample])

    first, second = await plane.datasets.AddSamples(request), await plane.datasets.AddSamples(request)

    assert (first.added_count, first.duplicate_count) == (1, 0)
    assert (second.added_count, second.duplicate_count) == (0, 1)


async def test_a_node_keeps_its_id_and_is_online_for_fifteen_seconds(plane: Plane):
    node = await plane.new_node()
    again = await plane.nodes.RegisterNode(node_pb2.RegisterNodeRequest(node=node))
    async with plane.db.transaction() as conn:
        past = "UPDATE nodes SET last_seen_time = now() - interval '16 s' WHERE node_id = %s"
        await conn.execute(past, [node.node_id])

    silent = (await plane.nodes.GetNode(node_pb2.GetNodeRequest(node_id=node.node_id))).node

    assert (again.node.node_id, again.next_register_s) == (node.node_id, 5)
    assert (again.node.state, silent.state) == (node_pb2.NODE_STATE_ONLINE, node_pb2.NODE_STATE_OFFLINE)


async def test_labels_of_an_adapter_can_be_changed_and_nothing_else(plane: Plane):
    adapter_id = await plane.finish((await plane.new_run()).run_id, {"a": b"x"})
    found = (await plane.adapters.GetAdapter(adapter_pb2.GetAdapterRequest(adapter_id=adapter_id))).adapter
    given = adapter_pb2.Adapter(adapter_id=adapter_id, labels={"stage": "live"}, name="other", etag=found.etag)

    def request(*paths: str) -> adapter_pb2.UpdateAdapterRequest:
        return adapter_pb2.UpdateAdapterRequest(adapter=given, update_mask=FieldMask(paths=paths))

    changed = (await plane.adapters.UpdateAdapter(request("labels"))).adapter
    refused = await refusal(plane.adapters.UpdateAdapter(request("name")))
    stale = await refusal(plane.adapters.UpdateAdapter(request("labels")))

    assert (dict(changed.labels), changed.name) == ({"stage": "live"}, found.name)
    assert (refused.reason, stale.reason) == ("INVALID_UPDATE_MASK", "ETAG_MISMATCH")
