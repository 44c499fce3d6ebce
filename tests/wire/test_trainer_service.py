"""TrainerService through a real socket: the path from a training process to whoever follows it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import grpc

from services.trainer_service import TrainerService
from tests.support.edge import edge, refusal
from tests.support.node_jobs import MemorySource, fake_jobs, make_job, node_config
from trainer_node.spool import SpoolWriter
from tunesmith.v1 import job_event_pb2, trainer_pb2
from tunesmith.v1.trainer_pb2_grpc import TrainerServiceStub


@asynccontextmanager
async def node(
    data_dir: Path, source: MemorySource | None = None, **settings: object
) -> AsyncIterator[TrainerServiceStub]:
    async with (
        fake_jobs(node_config(data_dir, **settings), source) as jobs,
        edge([TrainerService(jobs)]) as channel,
    ):
        yield TrainerServiceStub(channel)


async def stream(stub: TrainerServiceStub, job_id: str, after_seq: int = 0) -> list[job_event_pb2.JobEvent]:
    request = trainer_pb2.StreamJobEventsRequest(job_id=job_id, after_seq=after_seq)
    async with asyncio.timeout(20):
        return [event async for frame in stub.StreamJobEvents(request) for event in frame.events.events]


async def test_a_job_is_started_followed_to_its_end_and_listed(tmp_path: Path) -> None:
    job = make_job("quick")
    async with node(tmp_path) as stub:
        started = await stub.StartJob(trainer_pb2.StartJobRequest(job=job))
        events = await stream(stub, job.job_id)
        listed = await stub.GetJobs(trainer_pb2.GetJobsRequest())

    assert started.status.state in (trainer_pb2.JOB_STATE_PREPARING, trainer_pb2.JOB_STATE_RUNNING)
    assert [event.seq for event in events] == list(range(1, len(events) + 1))
    assert events[-1].finished.HasField("succeeded")
    (status,) = listed.jobs
    assert (status.job_id, status.run_id, status.last_seq) == (job.job_id, job.run_id, len(events))


async def test_a_broken_stream_goes_on_after_the_last_number_without_gap_or_double(tmp_path: Path) -> None:
    job = make_job("steady")
    async with node(tmp_path) as stub:
        await stub.StartJob(trainer_pb2.StartJobRequest(job=job))
        seen: list[int] = []
        while len(seen) < 60:
            request = trainer_pb2.StreamJobEventsRequest(job_id=job.job_id, after_seq=seen[-1] if seen else 0)
            call = stub.StreamJobEvents(request)
            async for frame in call:
                seen += [event.seq for event in frame.events.events]
                if frame.events.events:
                    break
            call.cancel()
        await stub.StopJob(trainer_pb2.StopJobRequest(job_id=job.job_id, grace_s=8))
        seen += [event.seq for event in await stream(stub, job.job_id, seen[-1])]

    assert seen == list(range(1, len(seen) + 1))


async def test_an_event_reaches_its_follower_soon_after_it_happened(tmp_path: Path) -> None:
    job = make_job("steady")
    async with node(tmp_path) as stub:
        await stub.StartJob(trainer_pb2.StartJobRequest(job=job))
        delays = []
        async for frame in stub.StreamJobEvents(trainer_pb2.StreamJobEventsRequest(job_id=job.job_id)):
            now = time.time_ns()
            delays += [(now - event.time.ToNanoseconds()) / 1e6 for event in frame.events.events[-1:]]
            if len(delays) >= 30:
                break
        await stub.StopJob(trainer_pb2.StopJobRequest(job_id=job.job_id, grace_s=0))
        await stream(stub, job.job_id)

    assert sorted(delays)[len(delays) // 2] < 200  # usually 20 to 50 ms; a busy machine must not fail the test


async def test_a_silent_job_gives_heartbeats(tmp_path: Path) -> None:
    source = MemorySource()
    source.open.clear()
    job = make_job("quick", dataset_digest=source.add_dataset({"p": b"s"}))
    async with node(tmp_path, source, heartbeat_s=0.05) as stub:
        await stub.StartJob(trainer_pb2.StartJobRequest(job=job))
        frames = stub.StreamJobEvents(trainer_pb2.StreamJobEventsRequest(job_id=job.job_id))
        assert [(await frames.read()).WhichOneof("frame") for _ in range(3)] == ["heartbeat"] * 3
        frames.cancel()
        await stub.StopJob(trainer_pb2.StopJobRequest(job_id=job.job_id, grace_s=0))
        assert (await stream(stub, job.job_id))[-1].finished.HasField("cancelled")


async def test_frames_stay_below_the_size_that_grpc_takes(tmp_path: Path) -> None:
    job = make_job("quick")
    async with node(tmp_path) as stub:
        await stub.StartJob(trainer_pb2.StartJobRequest(job=job))
        await stream(stub, job.job_id)
        # its process, which has told its end, still holds the spool
        while (await stub.GetJobs(trainer_pb2.GetJobsRequest())).jobs[0].state != trainer_pb2.JOB_STATE_ENDED:  # noqa: ASYNC110 - no event tells
            await asyncio.sleep(0.02)
    folder = tmp_path / "jobs" / job.job_id / "spool"
    for name in ("events.log", "events.head"):
        (folder / name).unlink()
    writer = SpoolWriter(folder)
    for _ in range(8):
        batch = job_event_pb2.MetricBatch(names=["loss"], values=[1.0] * 70_000)
        writer.append(job_event_pb2.JobEvent(metrics=batch))
    writer.finish(job_event_pb2.JobEvent(finished=job_event_pb2.JobFinished(cancelled={})))

    async with node(tmp_path) as stub:
        request = trainer_pb2.StreamJobEventsRequest(job_id=job.job_id)
        sizes = [frame.ByteSize() async for frame in stub.StreamJobEvents(request)]

    assert len(sizes) > 4
    assert max(sizes) < 1.1 * 2**20


async def test_refusals_carry_their_reasons(tmp_path: Path) -> None:
    job = make_job("steady", attempt=2)
    async with node(tmp_path, slots=1) as stub:
        unknown = make_job("quick", run="unknown").job_id
        await stub.StartJob(trainer_pb2.StartJobRequest(job=job))

        lower = await refusal(stub.StartJob(trainer_pb2.StartJobRequest(job=make_job("steady", attempt=1))))
        full = await refusal(stub.StartJob(trainer_pb2.StartJobRequest(job=make_job("quick", run="other"))))
        stop = await refusal(stub.StopJob(trainer_pb2.StopJobRequest(job_id=unknown)))
        follow = await refusal(stub.StreamJobEvents(trainer_pb2.StreamJobEventsRequest(job_id=unknown)))
        bad = await refusal(stub.StopJob(trainer_pb2.StopJobRequest(job_id="../../etc")))
        await stub.StopJob(trainer_pb2.StopJobRequest(job_id=job.job_id, grace_s=0))
        await stream(stub, job.job_id)

    assert (lower.reason, lower.code) == ("LEASE_LOST", grpc.StatusCode.FAILED_PRECONDITION)
    assert (full.reason, full.code) == ("NODE_FULL", grpc.StatusCode.RESOURCE_EXHAUSTED)
    assert (stop.reason, follow.reason) == ("JOB_NOT_FOUND", "JOB_NOT_FOUND")
    assert bad.reason == "INVALID_FIELD"
