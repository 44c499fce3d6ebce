"""What comes of a run: watch, report, adapter, download."""

from __future__ import annotations

import asyncio
import itertools

import grpc
import pytest

from control_plane.runs import commands
from tests.support.control_plane import Plane
from tests.support.edge import refusal
from tunesmith.v1 import adapter_pb2, job_event_pb2, run_pb2

FILES = {"a.json": b"{}", "empty.txt": b"", "weights.safetensors": bytes(range(256)) * 10_000}


def watch(plane: Plane, run_id: str):
    return plane.runs.WatchRun(run_pb2.WatchRunRequest(run_id=run_id))


async def test_a_watch_shows_the_state_now_and_each_change_and_ends_with_the_run(plane: Plane):
    run = await plane.new_run()
    call = watch(plane, run.run_id)
    frames = await frames_to(call, "QUEUED")

    job = await plane.dispatch(run.run_id)
    frames += await frames_to(call, "STARTING")
    async with plane.db.transaction() as conn:
        started = job_event_pb2.JobStarted(total_steps=10, total_epochs=1, device="cpu fp32")
        await commands.begin_training(conn, job, started, "ingest")
    frames += await frames_to(call, "RUNNING")
    assert frames[-1].run.total_steps == 10
    await plane.runs.CancelRun(run_pb2.CancelRunRequest(run_id=run.run_id))
    frames += await frames_to(call, "STOPPING")
    async with plane.db.transaction() as conn:
        finished = job_event_pb2.JobFinished(cancelled=job_event_pb2.JobCancelled(checkpoint_step=5))
        await commands.finish_run(conn, job, finished, None, "ingest")
    frames += [frame async for frame in rest_of(call)]

    states = [state_of(frame) for frame in frames if frame.HasField("run")]
    changes = [state for state, _ in itertools.groupby(states)]
    assert changes == ["QUEUED", "STARTING", "RUNNING", "STOPPING", "CANCELLED"]
    assert frames[-1].run.HasField("end_time")


def state_of(frame: run_pb2.WatchRunResponse) -> str:
    return run_pb2.RunState.Name(frame.run.state).removeprefix("RUN_STATE_")


async def frames_to(call, state: str) -> list[run_pb2.WatchRunResponse]:
    """Frames up to the first one that shows this state."""
    frames = [await asyncio.wait_for(call.read(), 30)]
    while state_of(frames[-1]) != state:
        frames.append(await asyncio.wait_for(call.read(), 30))
    return frames


async def rest_of(call):
    while (frame := await asyncio.wait_for(call.read(), 10)) is not grpc.aio.EOF:
        yield frame


async def test_watching_a_run_that_has_ended_shows_it_once(plane: Plane):
    run = await plane.new_run()
    await plane.runs.CancelRun(run_pb2.CancelRunRequest(run_id=run.run_id))

    frames = [frame async for frame in watch(plane, run.run_id)]

    assert [frame.run.state for frame in frames] == [run_pb2.RUN_STATE_CANCELLED]


async def test_the_report_is_read_by_run_and_by_adapter(plane: Plane):
    run = await plane.new_run()
    early = await refusal(plane.runs.GetRunReport(run_pb2.GetRunReportRequest(run_id=run.run_id)))
    adapter_id = await plane.finish(run.run_id, FILES)

    of_run = await plane.runs.GetRunReport(run_pb2.GetRunReportRequest(run_id=run.run_id))
    of_adapter = await plane.adapters.GetAdapterReport(adapter_pb2.GetAdapterReportRequest(adapter_id=adapter_id))

    assert early.reason == "REPORT_NOT_READY"
    assert of_run.report == of_adapter.report and of_run.report.final_loss == 1.5
    assert of_run.markdown == of_adapter.markdown == "# Report\n"


async def test_an_adapter_is_registered_with_its_runs_success(plane: Plane):
    run = await plane.new_run()
    adapter_id = await plane.finish(run.run_id, FILES)

    adapter = (await plane.adapters.GetAdapter(adapter_pb2.GetAdapterRequest(adapter_id=adapter_id))).adapter
    ended = (await plane.runs.GetRun(run_pb2.GetRunRequest(run_id=run.run_id))).run

    assert (ended.state, ended.adapter_id, ended.final_loss) == (run_pb2.RUN_STATE_SUCCEEDED, adapter_id, 1.5)
    assert (adapter.run_id, adapter.version, adapter.base_model) == (run.run_id, 1, "tiny")
    assert {file.path for file in adapter.files} == set(FILES)


async def download(plane: Plane, adapter_id: str, path: str = "", offset: int = 0) -> dict[str, bytes]:
    request = adapter_pb2.DownloadAdapterRequest(adapter_id=adapter_id, path=path, offset=offset)
    found: dict[str, bytes] = {}
    async for chunk in plane.adapters.DownloadAdapter(request):
        before = found.setdefault(chunk.file.path, b"")
        assert chunk.offset == len(before) + (offset if chunk.file.path == path else 0) and len(chunk.data) <= 2**20
        found[chunk.file.path] = before + chunk.data
    return found


async def test_a_download_gives_every_byte_of_every_file(plane: Plane):
    adapter_id = await plane.finish((await plane.new_run()).run_id, FILES)

    assert await download(plane, adapter_id) == FILES


@pytest.mark.parametrize("offset", [0, 1, 2**20, len(FILES["weights.safetensors"])])
async def test_a_download_goes_on_from_any_byte_of_any_file(plane: Plane, offset):
    adapter_id = await plane.finish((await plane.new_run()).run_id, FILES)

    found = await download(plane, adapter_id, "weights.safetensors", offset)

    assert found.get("weights.safetensors", b"") == FILES["weights.safetensors"][offset:]


async def test_a_download_from_nowhere_is_refused(plane: Plane):
    adapter_id = await plane.finish((await plane.new_run()).run_id, FILES)

    def call(**fields):
        return plane.adapters.DownloadAdapter(adapter_pb2.DownloadAdapterRequest(adapter_id=adapter_id, **fields))

    assert (await refusal(call(path="../secret"))).reason == "INVALID_FIELD"
    past = await refusal(call(path="a.json", offset=3))
    assert past.reason == "OFFSET_OUT_OF_RANGE" and "2 bytes" in past.text


async def test_a_hundred_idle_watchers_hold_nobody_up(plane: Plane):
    run = await plane.new_run()
    watches = [watch(plane, run.run_id) for _ in range(100)]
    for each in watches:
        await each.read()

    async with asyncio.timeout(5):
        answers = await asyncio.gather(
            *(plane.runs.GetRun(run_pb2.GetRunRequest(run_id=run.run_id)) for _ in range(100))
        )

    assert {answer.run.run_id for answer in answers} == {run.run_id}
    for each in watches:
        each.cancel()
