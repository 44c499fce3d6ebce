"""The control plane as clients rely on it: the real one, and the fake that tests of the command line run against."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable, Iterator

import grpc
import pytest

from tests.cli.plane_settings import CLIP, FILES, Setting
from tests.support.control_plane import small_spec
from tests.support.edge import Refusal, refusal
from tunesmith.v1 import (
    adapter_pb2,
    adapter_pb2_grpc,
    blob_pb2,
    blob_pb2_grpc,
    dataset_pb2,
    dataset_pb2_grpc,
    experiment_pb2,
    experiment_pb2_grpc,
    run_pb2,
    run_pb2_grpc,
    telemetry_pb2,
    telemetry_pb2_grpc,
)

NOBODY = "Z" * 26
Upload = blob_pb2.UploadBlobRequest


@pytest.fixture
def runs(channel: grpc.aio.Channel) -> run_pb2_grpc.RunServiceStub:
    return run_pb2_grpc.RunServiceStub(channel)


@pytest.fixture
def telemetry(channel: grpc.aio.Channel) -> telemetry_pb2_grpc.TelemetryServiceStub:
    return telemetry_pb2_grpc.TelemetryServiceStub(channel)


@pytest.fixture
def adapters(channel: grpc.aio.Channel) -> adapter_pb2_grpc.AdapterServiceStub:
    return adapter_pb2_grpc.AdapterServiceStub(channel)


@pytest.fixture
def blobs(channel: grpc.aio.Channel) -> blob_pb2_grpc.BlobServiceStub:
    return blob_pb2_grpc.BlobServiceStub(channel)


@pytest.fixture
def upload(setting: Setting) -> Iterator[Callable[..., object]]:
    """Uploads by a blocking stub, as the SDK does; see tests/wire/test_blob_service.py."""
    with grpc.insecure_channel(setting.address) as channel:
        call = blob_pb2_grpc.BlobServiceStub(channel).UploadBlob

        async def upload(*messages: Upload) -> blob_pb2.UploadBlobResponse | Refusal:
            try:
                return await asyncio.to_thread(call, iter(messages))
            except grpc.RpcError as error:
                return Refusal(error)

        yield upload


async def test_what_nobody_has_is_not_found_by_any_call(runs, telemetry, adapters, blobs):
    run_id, adapter_id, digest = f"run_{NOBODY}", f"adp_{NOBODY}", "0" * 64
    calls = {
        runs.GetRun(run_pb2.GetRunRequest(run_id=run_id)): "RUN_NOT_FOUND",
        runs.WatchRun(run_pb2.WatchRunRequest(run_id=run_id)): "RUN_NOT_FOUND",
        runs.ListPreviews(run_pb2.ListPreviewsRequest(run_id=run_id)): "RUN_NOT_FOUND",
        telemetry.QueryLogs(telemetry_pb2.QueryLogsRequest(run_id=run_id)): "RUN_NOT_FOUND",
        telemetry.WatchLogs(telemetry_pb2.WatchLogsRequest(run_id=run_id)): "RUN_NOT_FOUND",
        telemetry.QueryMetrics(telemetry_pb2.QueryMetricsRequest(run_id=run_id)): "RUN_NOT_FOUND",
        telemetry.WatchMetrics(telemetry_pb2.WatchMetricsRequest(run_id=run_id)): "RUN_NOT_FOUND",
        adapters.GetAdapter(adapter_pb2.GetAdapterRequest(adapter_id=adapter_id)): "ADAPTER_NOT_FOUND",
        adapters.DownloadAdapter(adapter_pb2.DownloadAdapterRequest(adapter_id=adapter_id)): "ADAPTER_NOT_FOUND",
        blobs.DownloadBlob(blob_pb2.DownloadBlobRequest(digest=digest)): "BLOB_NOT_FOUND",
        runs.CreateRun(
            run_pb2.CreateRunRequest(experiment_id=f"exp_{NOBODY}", spec=small_spec())
        ): "EXPERIMENT_NOT_FOUND",
    }

    for call, reason in calls.items():
        found = await refusal(call)
        assert (found.code, found.reason) == (grpc.StatusCode.NOT_FOUND, reason)
        assert found.info.metadata["request_id"]


async def test_a_request_that_breaks_a_rule_is_refused_with_its_field(runs, telemetry, blobs):
    for call, field in (
        (runs.GetRun(run_pb2.GetRunRequest(run_id="run_1")), "run_id"),
        (runs.ListRuns(run_pb2.ListRunsRequest(page_size=-1)), "page_size"),
        (runs.CreateRun(run_pb2.CreateRunRequest(display_name="x")), "experiment_id"),
        (telemetry.WatchLogs(telemetry_pb2.WatchLogsRequest(run_id="x")), "run_id"),
        (blobs.GetUpload(blob_pb2.GetUploadRequest(digest="abc")), "digest"),
    ):
        found = await refusal(call)
        assert (found.code, found.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "INVALID_FIELD")
        assert field in found.fields


async def test_runs_are_listed_newest_first_by_pages_and_filters(setting, runs):
    experiment_id = await setting.experiment()
    run_ids = [await setting.run(experiment_id) for _ in range(3)]
    newest_first = sorted(run_ids, reverse=True)

    async def page(**fields: object) -> run_pb2.ListRunsResponse:
        return await runs.ListRuns(run_pb2.ListRunsRequest(experiment_id=experiment_id, **fields))

    whole, first = await page(), await page(page_size=2)
    second = await page(page_size=2, page_token=first.next_page_token)

    assert [run.run_id for run in whole.runs] == newest_first
    assert [run.run_id for run in [*first.runs, *second.runs]] == newest_first
    assert first.next_page_token and not whole.next_page_token and not second.next_page_token
    assert [run.run_id for run in (await page(id_prefix=run_ids[1])).runs] == [run_ids[1]]
    assert len((await page(states=["RUN_STATE_RUNNING"])).runs) == 3
    assert not (await page(states=["RUN_STATE_FAILED"])).runs


async def test_a_page_token_that_no_list_gave_is_refused(runs, channel):
    request = {"page_token": "made-up"}
    for call in (
        runs.ListRuns(run_pb2.ListRunsRequest(**request)),
        adapter_pb2_grpc.AdapterServiceStub(channel).ListAdapters(adapter_pb2.ListAdaptersRequest(**request)),
        experiment_pb2_grpc.ExperimentServiceStub(channel).ListExperiments(
            experiment_pb2.ListExperimentsRequest(**request)
        ),
        dataset_pb2_grpc.DatasetServiceStub(channel).ListDatasets(dataset_pb2.ListDatasetsRequest(**request)),
    ):
        assert (await refusal(call)).reason == "INVALID_PAGE_TOKEN"


async def test_a_run_is_queued_once_for_a_request_id_and_not_at_all_where_it_is_only_checked(setting, runs):
    experiment_id = await setting.experiment()
    request = run_pb2.CreateRunRequest(experiment_id=experiment_id, display_name="mine", spec=small_spec())

    async def listed() -> list[run_pb2.Run]:
        return list((await runs.ListRuns(run_pb2.ListRunsRequest(experiment_id=experiment_id))).runs)

    request.validate_only = True
    checked = (await runs.CreateRun(request)).run
    assert (checked.run_id, checked.display_name, checked.state) == ("", "mine", run_pb2.RUN_STATE_QUEUED)
    assert await listed() == []

    request.validate_only, request.request_id = False, f"request-{experiment_id}"
    first, again = [(await runs.CreateRun(request)).run for _ in range(2)]
    assert first == again
    assert (first.experiment_id, first.display_name, first.state) == (experiment_id, "mine", run_pb2.RUN_STATE_QUEUED)
    assert first.spec.supervised.adapter.base_model == "tiny"
    assert await listed() == [first]

    request.request_id += "-2"
    assert (await runs.CreateRun(request)).run.run_id != first.run_id
    assert len(await listed()) == 2


async def test_a_watch_of_a_run_shows_it_as_it_is_and_ends_after_its_end(setting, runs):
    run_id = await setting.run()
    watching = aiter(runs.WatchRun(run_pb2.WatchRunRequest(run_id=run_id)))

    async with asyncio.timeout(20):
        first = await anext(watching)
        await setting.end(run_id)
        rest = [frame.run.state async for frame in watching if frame.HasField("run")]
        again = [frame.run.state async for frame in runs.WatchRun(run_pb2.WatchRunRequest(run_id=run_id))]

    assert (first.run.run_id, first.run.state) == (run_id, run_pb2.RUN_STATE_RUNNING)
    assert rest == again == [run_pb2.RUN_STATE_CANCELLED]


async def test_a_watch_of_telemetry_shows_what_there_is_and_ends_with_its_run(setting, telemetry):
    run_id = await setting.run(lines=["a", "b", "c"], losses=[2.0, 1.5])
    logs = aiter(telemetry.WatchLogs(telemetry_pb2.WatchLogsRequest(run_id=run_id)))
    metrics = aiter(telemetry.WatchMetrics(telemetry_pb2.WatchMetricsRequest(run_id=run_id)))

    async with asyncio.timeout(20):
        begun = await anext(logs), await anext(metrics)
        await setting.end(run_id)
        lines = [begun[0], *[frame async for frame in logs]]
        rows = [begun[1], *[frame async for frame in metrics]]

    shown = [line for frame in lines for line in frame.lines.lines]
    batches = [batch for frame in rows for batch in frame.rows.batches]
    assert [(line.text, line.attempt, line.stream) for line in shown] == [(text, 1, 1) for text in "abc"]
    assert all(line.HasField("time") for line in shown)
    assert {tuple(batch.names) for batch in batches} == {("loss",)}
    assert [step for batch in batches for step in batch.steps] == [1, 2]
    assert [value for batch in batches for value in batch.values] == [2.0, 1.5]
    assert {frame.rows.attempt for frame in rows if frame.HasField("rows")} == {1}
    assert all(frame.resume_token for frame in [*lines, *rows])


async def test_a_watch_goes_on_at_its_tokens_and_refuses_others(setting, telemetry):
    run_id = await setting.run(lines=["a", "b"], losses=[2.0])
    await setting.end(run_id)

    for watch, request in (
        (telemetry.WatchLogs, telemetry_pb2.WatchLogsRequest(run_id=run_id)),
        (telemetry.WatchMetrics, telemetry_pb2.WatchMetricsRequest(run_id=run_id)),
    ):
        frames = [frame async for frame in watch(request)]
        request.resume_token = frames[-1].resume_token
        assert [frame async for frame in watch(request)] == []
        request.resume_token = "made-up"
        assert (await refusal(watch(request))).reason == "INVALID_RESUME_TOKEN"


async def test_a_watch_without_anything_to_show_says_at_once_that_it_is_connected(setting, telemetry):
    run_id = await setting.run()

    for call in (
        telemetry.WatchLogs(telemetry_pb2.WatchLogsRequest(run_id=run_id)),
        telemetry.WatchMetrics(telemetry_pb2.WatchMetricsRequest(run_id=run_id)),
    ):
        assert (await asyncio.wait_for(call.read(), 4)).HasField("heartbeat")
        call.cancel()


async def test_logs_are_read_by_pages_and_filters(setting, telemetry):
    run_id = await setting.run(lines=["one", "two", "three"])

    async def page(**fields: object) -> tuple[list[str], str]:
        found = await telemetry.QueryLogs(telemetry_pb2.QueryLogsRequest(run_id=run_id, **fields))
        return [line.text for line in found.lines], found.next_page_token

    first, token = await page(page_size=2)

    assert (first, await page(page_size=2, page_token=token)) == (["one", "two"], (["three"], ""))
    assert await page(contains="t") == (["two", "three"], "")
    assert await page(stream="LOG_STREAM_STDERR") == ([], "")


async def test_curves_say_whether_they_are_complete_and_why_there_is_none(setting, telemetry):
    async def query(run_id: str, *names: str) -> telemetry_pb2.QueryMetricsResponse:
        return await telemetry.QueryMetrics(telemetry_pb2.QueryMetricsRequest(run_id=run_id, names=names))

    silent = await setting.run()
    none = await query(silent)
    run_id = await setting.run(losses=[2.0, float("inf")])
    running, other = await query(run_id), await query(run_id, "accuracy")
    await setting.end(run_id)

    (loss,) = running.series
    assert (loss.name, list(loss.steps), list(loss.values)) == ("loss", [1, 2], [2.0, float("inf")])
    assert (loss.total_points, list(loss.non_finite_steps), len(loss.times_us)) == (2, [2], 2)
    assert (none.empty_reason, list(none.series)) == (telemetry_pb2.EMPTY_REASON_NO_METRICS_RECORDED, [])
    assert (other.empty_reason, list(other.series)) == (telemetry_pb2.EMPTY_REASON_NO_MATCH, [])
    assert (running.complete, (await query(run_id)).complete) == (False, True)


async def test_previews_are_those_of_the_run_by_pages(setting, runs):
    run_id, other = await setting.run_with_clips("c", "a", "b"), await setting.run_with_clips("d")

    async def page(run_id: str, **fields: object) -> run_pb2.ListPreviewsResponse:
        return await runs.ListPreviews(run_pb2.ListPreviewsRequest(run_id=run_id, **fields))

    whole, first = await page(run_id), await page(run_id, page_size=2)
    second = await page(run_id, page_size=2, page_token=first.next_page_token)
    told = [(one.run_id, one.attempt, one.prompt_index, one.prompt, one.seed) for one in whole.previews]

    assert told == [(run_id, 1, place, prompt, 7) for place, prompt in enumerate("cab")]
    assert [*first.previews, *second.previews] == list(whole.previews)
    assert first.next_page_token and not second.next_page_token
    assert {one.file.digest for one in whole.previews} == {hashlib.sha256(CLIP).hexdigest()}
    assert [one.prompt for one in (await page(other)).previews] == ["d"]


async def test_an_upload_that_was_cut_goes_on_where_it_stopped_and_is_stored_once(blobs, upload):
    data = hashlib.sha256(b"of this test").digest() * 2
    digest = hashlib.sha256(data).hexdigest()
    progress = blob_pb2.GetUploadRequest(digest=digest)
    missing = blob_pb2.FindMissingBlobsRequest(digests=[digest, "0" * 64, digest])
    stored = blob_pb2.UploadBlobResponse(digest=digest, size_bytes=64)

    cut = await upload(Upload(digest=digest, size_bytes=64, data=data[:10]))
    arrived = await blobs.GetUpload(progress)
    elsewhere = await upload(Upload(digest=digest, size_bytes=64, offset=20, data=data[20:]))
    before = await blobs.FindMissingBlobs(missing)
    done = await upload(
        Upload(digest=digest, size_bytes=64, offset=10, data=data[10:30]), Upload(offset=30, data=data[30:])
    )
    again = await upload(Upload(digest=digest, size_bytes=64, data=data))

    assert (cut.reason, elsewhere.reason) == ("UPLOAD_OFFSET", "UPLOAD_OFFSET")
    assert elsewhere.info.metadata["offset"] == "10"
    assert (arrived.offset, arrived.complete) == (10, False)
    assert list(before.missing_digests) == [digest, "0" * 64]
    assert done == again == stored
    assert await blobs.GetUpload(progress) == blob_pb2.GetUploadResponse(offset=64, complete=True)
    assert list((await blobs.FindMissingBlobs(missing)).missing_digests) == ["0" * 64]


async def test_bytes_that_are_not_those_that_were_announced_are_refused_and_dropped(blobs, upload):
    digest = hashlib.sha256(b"never uploaded").hexdigest()

    other = await upload(Upload(digest=digest, size_bytes=3, data=b"abc"))
    longer = await upload(Upload(digest=digest, size_bytes=3, data=b"abcd"))
    nameless = await upload(Upload(size_bytes=3, data=b"abc"))

    assert (other.reason, longer.reason, nameless.reason) == ("BLOB_CORRUPT", "BLOB_CORRUPT", "UPLOAD_OFFSET")
    assert await blobs.GetUpload(blob_pb2.GetUploadRequest(digest=digest)) == blob_pb2.GetUploadResponse()


async def test_a_blob_is_read_from_any_offset_and_not_past_its_end(blobs, upload):
    data = b"some bytes"
    digest = hashlib.sha256(data).hexdigest()
    await upload(Upload(digest=digest, size_bytes=len(data), data=data))

    for offset in (0, 3, len(data)):
        request = blob_pb2.DownloadBlobRequest(digest=digest, offset=offset)
        chunks = [chunk async for chunk in blobs.DownloadBlob(request)]
        assert b"".join(chunk.data for chunk in chunks) == data[offset:]
        assert (chunks[0].offset, {chunk.size_bytes for chunk in chunks}) == (offset, {len(data)})
    beyond = await refusal(blobs.DownloadBlob(blob_pb2.DownloadBlobRequest(digest=digest, offset=len(data) + 1)))
    assert beyond.reason == "OFFSET_OUT_OF_RANGE"


async def test_an_adapter_is_read_file_by_file_from_any_point(setting, adapters):
    adapter_id = await setting.adapter()

    async def download(path: str = "", offset: int = 0) -> dict[str, bytes]:
        found: dict[str, bytes] = {}
        request = adapter_pb2.DownloadAdapterRequest(adapter_id=adapter_id, path=path, offset=offset)
        async for chunk in adapters.DownloadAdapter(request):
            start = offset if chunk.file.path == path else 0
            assert chunk.offset == start + len(found.get(chunk.file.path, b""))
            found[chunk.file.path] = found.get(chunk.file.path, b"") + chunk.data
        return found

    told = (await adapters.GetAdapter(adapter_pb2.GetAdapterRequest(adapter_id=adapter_id))).adapter
    listed = await adapters.ListAdapters(adapter_pb2.ListAdaptersRequest(name=told.name, id_prefix=adapter_id))
    config, model = "config.json", "model.safetensors"
    unknown = adapter_pb2.DownloadAdapterRequest(adapter_id=adapter_id, path="nowhere")
    beyond = adapter_pb2.DownloadAdapterRequest(adapter_id=adapter_id, path=model, offset=9)

    assert [(file.path, file.size_bytes) for file in told.files] == [(path, len(data)) for path, data in FILES.items()]
    assert list(listed.adapters) == [told]
    assert await download() == FILES
    assert await download(config, 1) == {**FILES, config: b"}"}
    assert await download(config, 2) == {"empty.txt": b"", model: FILES[model]}
    assert (await refusal(adapters.DownloadAdapter(unknown))).reason == "INVALID_FIELD"
    assert (await refusal(adapters.DownloadAdapter(beyond))).reason == "OFFSET_OUT_OF_RANGE"
