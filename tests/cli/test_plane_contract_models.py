"""Language models as clients rely on them: the real control plane, and the fake of the command line's tests."""

from __future__ import annotations

import hashlib

import grpc
import pytest
from google.protobuf.field_mask_pb2 import FieldMask

from tests.cli.plane_settings import FILES, Setting
from tests.contract.language_models import learning_from
from tests.support.control_plane import fresh, fresh_digest
from tests.support.edge import refusal
from tunesmith.v1 import blob_pb2, blob_pb2_grpc, model_pb2, model_pb2_grpc, run_pb2, run_pb2_grpc

NOBODY = f"mdl_{'Z' * 26}"


@pytest.fixture
def models(channel: grpc.aio.Channel) -> model_pb2_grpc.ModelServiceStub:
    return model_pb2_grpc.ModelServiceStub(channel)


@pytest.fixture
def create(setting: Setting, channel: grpc.aio.Channel):
    """Creates a run of a language model on these files, of a name and a digest each."""

    async def call(*files: tuple[str, str]) -> run_pb2.CreateRunResponse:
        await setting.learner()
        request = run_pb2.CreateRunRequest(experiment_id=await setting.experiment(), spec=learning_from(*files))
        return await run_pb2_grpc.RunServiceStub(channel).CreateRun(request)

    return call


async def uploaded(channel: grpc.aio.Channel, text: str) -> str:
    """The digest of a text that is there."""
    data = text.encode()
    digest = hashlib.sha256(data).hexdigest()
    message = blob_pb2.UploadBlobRequest(digest=digest, size_bytes=len(data), data=data)
    await blob_pb2_grpc.BlobServiceStub(channel).UploadBlob(iter([message]))
    return digest


async def test_a_model_that_nobody_has_is_not_found_by_any_call(models):
    update = model_pb2.UpdateModelRequest(
        model=model_pb2.Model(model_id=NOBODY), update_mask=FieldMask(paths=["labels"])
    )
    for call in (
        models.GetModel(model_pb2.GetModelRequest(model_id=NOBODY)),
        models.GetModelReport(model_pb2.GetModelReportRequest(model_id=NOBODY)),
        models.DownloadModel(model_pb2.DownloadModelRequest(model_id=NOBODY)),
        models.UpdateModel(update),
    ):
        found = await refusal(call)
        assert (found.code, found.reason) == (grpc.StatusCode.NOT_FOUND, "MODEL_NOT_FOUND")


async def test_a_model_is_listed_by_its_name_and_read_file_by_file_from_any_point(setting, models):
    model_id = await setting.model()

    async def download(path: str = "", offset: int = 0) -> dict[str, bytes]:
        found: dict[str, bytes] = {}
        request = model_pb2.DownloadModelRequest(model_id=model_id, path=path, offset=offset)
        async for chunk in models.DownloadModel(request):
            start = offset if chunk.file.path == path else 0
            assert chunk.offset == start + len(found.get(chunk.file.path, b""))
            found[chunk.file.path] = found.get(chunk.file.path, b"") + chunk.data
        return found

    told = (await models.GetModel(model_pb2.GetModelRequest(model_id=model_id))).model
    listed = await models.ListModels(model_pb2.ListModelsRequest(name=told.name, id_prefix=model_id))
    unknown = model_pb2.DownloadModelRequest(model_id=model_id, path="nowhere")
    beyond = model_pb2.DownloadModelRequest(model_id=model_id, path="config.json", offset=9)

    assert [(file.path, file.size_bytes) for file in told.files] == [(path, len(data)) for path, data in FILES.items()]
    assert list(listed.models) == [told]
    assert await download() == FILES
    assert await download("config.json", 1) == {**FILES, "config.json": b"}"}
    assert await download("config.json", 2) == {path: FILES[path] for path in ("empty.txt", "model.safetensors")}
    assert (await refusal(models.DownloadModel(unknown))).reason == "INVALID_FIELD"
    assert (await refusal(models.DownloadModel(beyond))).reason == "OFFSET_OUT_OF_RANGE"


async def test_labels_of_a_model_are_written_over_what_was_read_and_nothing_newer(setting, models):
    model_id = await setting.model()
    found = (await models.GetModel(model_pb2.GetModelRequest(model_id=model_id))).model

    def update(path: str = "labels") -> model_pb2.UpdateModelRequest:
        given = model_pb2.Model(model_id=model_id, labels={"for": "demo"}, etag=found.etag)
        return model_pb2.UpdateModelRequest(model=given, update_mask=FieldMask(paths=[path]))

    changed = (await models.UpdateModel(update())).model

    assert dict(changed.labels) == {"for": "demo"} and changed.etag != found.etag
    assert (await refusal(models.UpdateModel(update()))).reason == "ETAG_MISMATCH"
    assert (await refusal(models.UpdateModel(update("name")))).reason == "INVALID_UPDATE_MASK"


async def test_text_must_be_there_before_a_run_learns_from_it(create, channel):
    text = await uploaded(channel, fresh("Hello.\n"))

    refused = await refusal(create(("en.txt", text), ("es/quijote.txt", fresh_digest())))
    run = (await create(("en.txt", text))).run

    assert (refused.code, refused.reason) == (grpc.StatusCode.NOT_FOUND, "BLOB_NOT_FOUND")
    assert "es/quijote.txt" in refused.text and "upload it with UploadBlob, then create the run again" in refused.text
    assert [file.digest for file in run.spec.tiny_lm.corpus.corpus_files] == [text]


@pytest.mark.parametrize(
    ("names", "wrong"),
    [
        (("en.txt", "en.txt"), 1),
        (("En.txt", "en.txt"), 1),
        (("a.txt", "a.txt/b.txt"), 1),
        (("a.txt/b.txt", "c.txt", "a.txt"), 0),
    ],
)
async def test_names_that_cannot_lie_beside_each_other_are_refused(create, channel, names, wrong):
    text = await uploaded(channel, "Hello.\n")

    refused = await refusal(create(*((name, text) for name in names)))

    assert refused.reason == "INVALID_FIELD"
    assert list(refused.fields) == [f"spec.tiny_lm.corpus.corpus_files[{wrong}].name"]
