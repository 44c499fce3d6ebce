"""Language models on the wire: their texts, the model that a run registers, its files, its previews."""

from __future__ import annotations

import grpc
import pytest
from google.protobuf.field_mask_pb2 import FieldMask

from tests.contract.language_models import dispatch, finish, learner, learning_from, models, new_model, new_run
from tests.support.control_plane import Plane, fresh, fresh_digest
from tests.support.edge import Refusal, refusal
from tunesmith.v1 import experiment_pb2, job_spec_pb2, model_pb2, run_pb2

FILES = {"README.md": b"# A model\n", "best_model.pt": bytes(range(256)) * 5_000, "empty.txt": b""}


async def create(plane: Plane, experiment_id: str, *files: tuple[str, str], **fields: object):
    """CreateRun on these files."""
    request = run_pb2.CreateRunRequest(experiment_id=experiment_id, spec=learning_from(*files), **fields)
    return await plane.runs.CreateRun(request)


async def refused_corpus(plane: Plane, *files: tuple[str, str]) -> Refusal:
    """How a run on these files is refused."""
    await learner(plane)
    return await refusal(create(plane, (await plane.new_experiment()).experiment_id, *files))


async def test_a_model_is_registered_with_its_runs_success(plane: Plane):
    run = await new_run(plane)
    model_id = await finish(plane, run.run_id, FILES)

    model = (await models(plane).GetModel(model_pb2.GetModelRequest(model_id=model_id))).model
    ended = (await plane.runs.GetRun(run_pb2.GetRunRequest(run_id=run.run_id))).run

    assert (ended.state, ended.model_id, ended.final_loss) == (run_pb2.RUN_STATE_SUCCEEDED, model_id, 4.5)
    assert not ended.adapter_id and model_id.startswith("mdl_")
    assert (model.run_id, model.experiment_id, model.version) == (run.run_id, run.experiment_id, 1)
    assert (model.final_loss, model.best_loss, model.training_config.spec) == (4.5, 4.75, run.spec)
    assert {file.path for file in model.files} == set(FILES) and model.create_time == ended.end_time


async def test_the_versions_of_a_name_are_counted_and_listed_newest_first(plane: Plane):
    experiment = await plane.new_experiment()
    first, second, third = [await new_model(plane, experiment.experiment_id) for _ in range(3)]
    await new_model(plane)

    async def listed(**filters: object) -> list[tuple[str, int]]:
        found = await models(plane).ListModels(model_pb2.ListModelsRequest(**filters))
        return [(model.model_id, model.version) for model in found.models]

    everything = [(third, 3), (second, 2), (first, 1)]
    assert await listed(experiment_id=experiment.experiment_id) == everything
    assert await listed(name=experiment.name) == everything
    assert await listed(id_prefix=second) == [(second, 2)]
    assert await listed(experiment_id=experiment.experiment_id, name=fresh("none")) == []


async def test_a_list_of_models_goes_on_page_by_page_and_only_with_its_own_filter(plane: Plane):
    experiment = await plane.new_experiment()
    made = [await new_model(plane, experiment.experiment_id) for _ in range(3)]

    request = model_pb2.ListModelsRequest(name=experiment.name, page_size=2)
    first = await models(plane).ListModels(request)
    await new_model(plane, experiment.experiment_id)  # while somebody reads
    token = first.next_page_token
    rest = await models(plane).ListModels(model_pb2.ListModelsRequest(name=experiment.name, page_token=token))
    refused = await refusal(models(plane).ListModels(model_pb2.ListModelsRequest(page_token=token)))

    assert [model.model_id for model in [*first.models, *rest.models]] == made[::-1]
    assert not rest.next_page_token and refused.reason == "INVALID_PAGE_TOKEN"


async def test_the_report_is_read_by_run_and_by_model(plane: Plane):
    run = await new_run(plane)
    early = await refusal(plane.runs.GetRunReport(run_pb2.GetRunReportRequest(run_id=run.run_id)))
    model_id = await finish(plane, run.run_id, FILES)

    of_run = await plane.runs.GetRunReport(run_pb2.GetRunReportRequest(run_id=run.run_id))
    of_model = await models(plane).GetModelReport(model_pb2.GetModelReportRequest(model_id=model_id))

    assert early.reason == "REPORT_NOT_READY"
    assert of_run.report == of_model.report and of_run.report.best_loss == 4.75
    assert of_run.markdown == of_model.markdown == "# Report\n"


async def test_labels_of_a_model_can_be_changed_and_nothing_else(plane: Plane):
    model_id = await new_model(plane)
    found = (await models(plane).GetModel(model_pb2.GetModelRequest(model_id=model_id))).model
    given = model_pb2.Model(model_id=model_id, labels={"stage": "live"}, name="other", etag=found.etag)

    def request(*paths: str) -> model_pb2.UpdateModelRequest:
        return model_pb2.UpdateModelRequest(model=given, update_mask=FieldMask(paths=paths))

    changed = (await models(plane).UpdateModel(request("labels"))).model
    refused = await refusal(models(plane).UpdateModel(request("name")))
    stale = await refusal(models(plane).UpdateModel(request("labels")))

    assert (dict(changed.labels), changed.name) == ({"stage": "live"}, found.name)
    assert changed.etag != found.etag
    assert (refused.reason, stale.reason) == ("INVALID_UPDATE_MASK", "ETAG_MISMATCH")
    assert stale.code is grpc.StatusCode.ABORTED


async def test_a_model_that_nobody_registered_cannot_be_labelled(plane: Plane):
    given = model_pb2.Model(model_id="mdl_" + "0" * 26, labels={"stage": "live"})

    request = model_pb2.UpdateModelRequest(model=given, update_mask=FieldMask(paths=["labels"]))
    refused = await refusal(models(plane).UpdateModel(request))

    assert (refused.code, refused.reason) == (grpc.StatusCode.NOT_FOUND, "MODEL_NOT_FOUND")
    assert "list them with ListModels" in refused.text and refused.info.metadata["model_id"] == given.model_id


async def download(plane: Plane, model_id: str, path: str = "", offset: int = 0) -> dict[str, bytes]:
    request = model_pb2.DownloadModelRequest(model_id=model_id, path=path, offset=offset)
    found: dict[str, bytes] = {}
    async for chunk in models(plane).DownloadModel(request):
        before = found.setdefault(chunk.file.path, b"")
        assert chunk.offset == len(before) + (offset if chunk.file.path == path else 0) and len(chunk.data) <= 2**20
        found[chunk.file.path] = before + chunk.data
    return found


async def test_a_download_gives_every_byte_of_every_file(plane: Plane):
    model_id = await new_model(plane, files=FILES)

    assert await download(plane, model_id) == FILES


@pytest.mark.parametrize("offset", [0, 1, 2**20, len(FILES["best_model.pt"])])
async def test_a_download_goes_on_from_any_byte_of_any_file(plane: Plane, offset):
    model_id = await new_model(plane, files=FILES)

    found = await download(plane, model_id, "best_model.pt", offset)

    assert found.get("best_model.pt", b"") == FILES["best_model.pt"][offset:]
    assert "README.md" not in found and found["empty.txt"] == b""


async def test_a_download_from_nowhere_is_refused(plane: Plane):
    model_id = await new_model(plane, files=FILES)

    async def refused(**fields: object) -> Refusal:
        return await refusal(models(plane).DownloadModel(model_pb2.DownloadModelRequest(model_id=model_id, **fields)))

    stray, past = await refused(path="../secret"), await refused(path="README.md", offset=11)

    assert stray.reason == "INVALID_FIELD"
    assert stray.fields == {"path": f"'../secret' is no file of {model_id}; it has README.md, best_model.pt, empty.txt"}
    assert past.reason == "OFFSET_OUT_OF_RANGE" and "10 bytes" in past.text


async def test_what_a_language_model_wrote_is_a_preview_without_a_file(plane: Plane):
    run = await new_run(plane)
    job = await dispatch(plane, run.run_id)
    async with plane.db.transaction() as conn:
        sql = """
            INSERT INTO previews (run_id, attempt, step, prompt_index, prompt, seed, duration_s, text)
            VALUES (%s, 1, 10, 0, 'Once', 42, 0, 'Once there was a model')
        """
        await conn.execute(sql, [job.run_id])

    found = await plane.runs.ListPreviews(run_pb2.ListPreviewsRequest(run_id=run.run_id))

    (preview,) = found.previews
    assert (preview.prompt, preview.text, preview.step) == ("Once", "Once there was a model", 10)
    assert not preview.HasField("file") and preview.duration_s == 0


async def test_a_text_that_is_not_uploaded_is_named_and_after_its_upload_the_run_is_queued(plane: Plane):
    experiment = (await plane.new_experiment()).experiment_id
    await learner(plane)
    there = await plane.blobs.put_bytes(b"Hello.\n")
    text = fresh("Hola.\n").encode()
    missing = fresh_digest()

    refused = await refusal(create(plane, experiment, ("en.txt", there), ("es/quijote.txt", missing)))
    rehearsed = await refusal(create(plane, experiment, ("es/quijote.txt", missing), validate_only=True))
    uploaded = await plane.blobs.put_bytes(text)
    run = (await create(plane, experiment, ("en.txt", there), ("es/quijote.txt", uploaded))).run

    assert (refused.code, refused.reason) == (grpc.StatusCode.NOT_FOUND, "BLOB_NOT_FOUND")
    assert "es/quijote.txt" in refused.text and "en.txt" not in refused.text
    assert "upload it with UploadBlob, then create the run again" in refused.text
    assert rehearsed.reason == "BLOB_NOT_FOUND"
    assert run.state == run_pb2.RUN_STATE_QUEUED and not run.dataset_version_id
    assert [file.name for file in run.spec.tiny_lm.corpus.corpus_files] == ["en.txt", "es/quijote.txt"]
    listed = await plane.runs.ListRuns(run_pb2.ListRunsRequest(experiment_id=experiment))
    assert [each.run_id for each in listed.runs] == [run.run_id]


async def test_a_text_that_the_experiment_names_is_looked_for_when_a_run_takes_it(plane: Plane):
    await learner(plane)
    experiment = experiment_pb2.Experiment(name=fresh("texts"), default_spec=learning_from(("en.txt", fresh_digest())))
    made = await plane.experiments.CreateExperiment(experiment_pb2.CreateExperimentRequest(experiment=experiment))
    experiment_id = made.experiment.experiment_id
    uploaded = await plane.blobs.put_bytes(b"Hola.\n")

    refused = await refusal(plane.runs.CreateRun(run_pb2.CreateRunRequest(experiment_id=experiment_id)))
    run = (await create(plane, experiment_id, ("es.txt", uploaded))).run

    assert refused.reason == "BLOB_NOT_FOUND" and "en.txt" in refused.text
    assert [file.name for file in run.spec.tiny_lm.corpus.corpus_files] == ["es.txt"]  # its own list, in its place


@pytest.mark.parametrize(
    "name",
    ["../en.txt", "/en.txt", "en", "en.TXT", "a/./b.txt", "a//b.txt", "a/b/c/d/e/f.txt", ".txt", "x" * 101 + ".txt"],
)
async def test_a_name_that_could_leave_its_folder_or_is_no_text_file_is_refused_by_its_path(plane: Plane, name):
    refused = await refused_corpus(plane, ("en.txt", fresh_digest()), (name, fresh_digest()))

    assert refused.reason == "INVALID_FIELD"
    assert list(refused.fields) == ["spec.tiny_lm.corpus.corpus_files[1].name"]


@pytest.mark.parametrize(
    ("names", "wrong"),
    [(("en.txt", "en.txt"), 1), (("a.txt", "a.txt/b.txt"), 1), (("a.txt/b.txt", "c.txt", "a.txt"), 0)],
)
async def test_names_that_cannot_lie_beside_each_other_are_refused(plane: Plane, names, wrong):
    text = await plane.blobs.put_bytes(b"Hello.\n")

    refused = await refused_corpus(plane, *((name, text) for name in names))

    assert refused.reason == "INVALID_FIELD"
    assert list(refused.fields) == [f"spec.tiny_lm.corpus.corpus_files[{wrong}].name"]
    assert "rename one of them" in refused.text


async def test_more_files_than_a_corpus_may_have_are_refused_with_the_number(plane: Plane):
    text = await plane.blobs.put_bytes(b"Hello.\n")

    refused = await refused_corpus(plane, *((f"{number}.txt", text) for number in range(1001)))

    assert "1000" in refused.fields["spec.tiny_lm.corpus.corpus_files"]


async def test_a_language_model_takes_no_data_set(plane: Plane):
    await learner(plane)
    of_clips = await plane.new_run()

    request = run_pb2.CreateRunRequest(
        experiment_id=of_clips.experiment_id,
        spec=job_spec_pb2.JobSpec(tiny_lm=job_spec_pb2.TinyLmSpec()),
        dataset_version_id=of_clips.dataset_version_id,
    )
    refused = await refusal(plane.runs.CreateRun(request))

    assert refused.reason == "INVALID_FIELD" and list(refused.fields) == ["dataset_version_id"]


async def test_a_create_that_is_repeated_is_the_same_run_and_with_other_texts_another_request(plane: Plane):
    experiment = (await plane.new_experiment()).experiment_id
    await learner(plane)
    text, other = [await plane.blobs.put_bytes(fresh("text").encode()) for _ in range(2)]
    request_id = fresh("request")

    first = (await create(plane, experiment, ("en.txt", text), request_id=request_id)).run
    again = (await create(plane, experiment, ("en.txt", text), request_id=request_id)).run
    refused = await refusal(create(plane, experiment, ("en.txt", other), request_id=request_id))

    assert first.run_id == again.run_id
    assert refused.reason == "REQUEST_ID_REUSED"
