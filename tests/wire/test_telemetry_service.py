"""TelemetryService over a socket: queries, pages, and watches that resume at any frame without gap or repeat."""

from __future__ import annotations

import asyncio
import math
import random
from collections import Counter
from collections.abc import AsyncIterator

import grpc
import pytest
import pytest_asyncio

from control_plane.db.failures import expected_failure
from control_plane.db.pool import Database
from control_plane.ids import new_id
from control_plane.runs.model import Job
from control_plane.telemetry import feed
from control_plane.telemetry.commands import apply_events
from services.telemetry_service import TelemetryService
from tests.support.edge import edge, refusal
from tests.support.fakes import InMemoryBlobs
from tests.support.telemetry_load import end_run, fill_metrics, logs_event, make_job, metrics_event
from tunesmith.v1 import job_event_pb2, telemetry_pb2, telemetry_pb2_grpc

Stub = telemetry_pb2_grpc.TelemetryServiceStub
Point = tuple[int, str, int, float]


@pytest_asyncio.fixture
async def telemetry(db: Database) -> AsyncIterator[Stub]:
    """The service over a socket."""
    async with edge([TelemetryService(db)], translate=expected_failure) as channel:
        yield Stub(channel)


async def apply(db: Database, job: Job, *events: job_event_pb2.JobEvent) -> None:
    await apply_events(db, InMemoryBlobs(), job, events, lease_s=15)


def points(frame: telemetry_pb2.WatchMetricsResponse) -> list[Point]:
    """The points of a frame: attempt, name, step, value."""
    return [
        (frame.rows.attempt, name, step, batch.values[row * len(batch.names) + column])
        for batch in frame.rows.batches
        for row, step in enumerate(batch.steps)
        for column, name in enumerate(batch.names)
    ]


async def test_a_query_answers_curves_by_name_with_every_value_as_measured(db, telemetry):
    job = await make_job(db)
    losses = [0.1 + 0.2, math.nan, -math.inf]
    await apply(db, job, metrics_event(1, {"loss": losses, "lr": [1e-4, 2e-4, 3e-4]}, [10, 20, 30]))

    answer = await telemetry.QueryMetrics(telemetry_pb2.QueryMetricsRequest(run_id=job.run_id))

    loss, rate = answer.series
    assert (loss.name, rate.name) == ("loss", "lr") and not answer.complete
    assert list(loss.steps) == [10, 20, 30] and list(loss.non_finite_steps) == [20, 30]
    assert loss.values[0] == 0.1 + 0.2 and math.isnan(loss.values[1]) and loss.values[2] == -math.inf
    assert list(rate.values) == [1e-4, 2e-4, 3e-4] and rate.total_points == 3


async def test_a_query_of_a_run_without_metrics_is_empty_and_says_why(db, telemetry):
    empty, other = await make_job(db), await make_job(db)
    await apply(db, other, metrics_event(1, {"loss": [1.0]}, [1]))

    none = await telemetry.QueryMetrics(telemetry_pb2.QueryMetricsRequest(run_id=empty.run_id))
    unmatched = await telemetry.QueryMetrics(telemetry_pb2.QueryMetricsRequest(run_id=other.run_id, names=["x"]))

    assert none.empty_reason == telemetry_pb2.EMPTY_REASON_NO_METRICS_RECORDED
    assert unmatched.empty_reason == telemetry_pb2.EMPTY_REASON_NO_MATCH


@pytest.mark.parametrize("method", ["QueryMetrics", "QueryLogs", "WatchMetrics", "WatchLogs"])
async def test_an_unknown_run_is_not_found(telemetry, method):
    request = getattr(telemetry_pb2, f"{method}Request")(run_id=new_id("run"))

    refused = await refusal(getattr(telemetry, method)(request))

    assert (refused.code, refused.reason) == (grpc.StatusCode.NOT_FOUND, "RUN_NOT_FOUND")


@pytest.mark.parametrize("method", ["WatchMetrics", "WatchLogs"])
async def test_a_token_of_another_run_is_refused(db, telemetry, method):
    first, second = await make_job(db), await make_job(db)
    request = getattr(telemetry_pb2, f"{method}Request")
    await end_run(db, second.run_id)
    await apply(db, first, metrics_event(1, {"loss": [1.0]}, [1]), logs_event(2, ["a"]))
    frame = await anext(aiter(getattr(telemetry, method)(request(run_id=first.run_id))))

    refused = await refusal(getattr(telemetry, method)(request(run_id=second.run_id, resume_token=frame.resume_token)))

    assert (refused.code, refused.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "INVALID_RESUME_TOKEN")


async def test_a_watch_resumed_at_any_frame_gives_exactly_the_rest(db, telemetry, monkeypatch):
    monkeypatch.setattr(feed, "FRAME_ROWS", 7)
    job = await make_job(db)
    await apply(db, job, metrics_event(1, {"loss": [float(i) for i in range(40)]}, range(40)))
    await apply(db, job, metrics_event(2, {"eval": [9.0]}, [20]), metrics_event(3, {"loss": [5.0, 6.0]}, [41, 42]))
    later = await make_job(db, run_id=job.run_id, attempt=2)
    await apply(db, later, metrics_event(1, {"loss": [-float(i) for i in range(30, 60)]}, range(30, 60)))
    await end_run(db, job.run_id)
    request = telemetry_pb2.WatchMetricsRequest(run_id=job.run_id)

    frames = [frame async for frame in telemetry.WatchMetrics(request)]
    for at, frame in enumerate(frames):
        resumed = telemetry_pb2.WatchMetricsRequest(run_id=job.run_id, resume_token=frame.resume_token)
        rest = [frame async for frame in telemetry.WatchMetrics(resumed)]
        assert [points(one) for one in rest] == [points(one) for one in frames[at + 1 :]]

    seen = [point for frame in frames for point in points(frame)]
    first = [(1, "loss", step, float(step)) for step in range(30)] + [(1, "eval", 20, 9.0)]
    assert sorted(seen) == sorted(first + [(2, "loss", step, -float(step)) for step in range(30, 60)])
    assert len(frames) > 8


async def test_a_watch_that_is_cut_again_and_again_while_a_run_goes_on_has_no_gap_and_no_repeat(
    db, telemetry, monkeypatch
):
    monkeypatch.setattr(feed, "FRAME_ROWS", 50)
    noise = random.Random(3)
    job = await make_job(db)

    async def train(attempt: Job, first: int, last: int) -> None:
        step, seq = first, 0
        while step < last:
            count = noise.randrange(1, 40)
            seq += 1
            steps = range(step, min(step + count, last))
            value = [float(attempt.attempt)] * len(steps)
            await apply(db, attempt, metrics_event(seq, {"loss": value, "lr": value}, steps))
            step += count
            await asyncio.sleep(noise.choice((0, 0, 0.002)))

    async def both() -> None:
        await train(job, 0, 600)
        later = await make_job(db, run_id=job.run_id, attempt=2)
        await train(later, 400, 1200)
        await end_run(db, job.run_id)

    training = asyncio.create_task(both())
    seen: Counter[Point] = Counter()
    token, cuts, ended = "", 0, False
    while not ended:
        call = telemetry.WatchMetrics(telemetry_pb2.WatchMetricsRequest(run_id=job.run_id, resume_token=token))
        left = noise.randrange(1, 6)
        async for frame in call:
            seen.update(points(frame))
            token, left = frame.resume_token, left - 1
            if not left:
                call.cancel()
                cuts += 1
                break
        else:
            ended = True
    await training

    assert max(seen.values()) == 1 and cuts > 5
    of = {attempt: {step for a, name, step, _ in seen if a == attempt and name == "lr"} for attempt in (1, 2)}
    assert of[2] == set(range(400, 1200))
    assert set(range(400)) <= of[1] <= set(range(600))


async def test_a_log_watch_ends_only_after_every_line_was_sent(db, telemetry):
    job = await make_job(db)
    call = telemetry.WatchLogs(telemetry_pb2.WatchLogsRequest(run_id=job.run_id))

    async def train() -> None:
        for seq in range(1, 60):
            await apply(db, job, logs_event(seq, [f"{seq}a", f"{seq}b"], stream=seq % 2 + 1))
        await end_run(db, job.run_id)

    training = asyncio.create_task(train())
    lines = [line async for frame in call for line in frame.lines.lines]
    await training

    assert [line.text for line in lines] == [f"{seq}{half}" for seq in range(1, 60) for half in "ab"]
    assert {line.stream for line in lines[:2]} == {job_event_pb2.LOG_STREAM_STDERR} and lines[0].attempt == 1
    assert await call.code() == grpc.StatusCode.OK


async def test_a_watch_of_a_silent_run_says_at_once_that_it_lives_and_gives_a_token(db, telemetry):
    job = await make_job(db)
    call = telemetry.WatchLogs(telemetry_pb2.WatchLogsRequest(run_id=job.run_id))

    frame = await asyncio.wait_for(anext(aiter(call)), 5)

    assert frame.HasField("heartbeat") and frame.resume_token


async def test_a_watch_gives_only_the_metrics_and_steps_that_were_asked_for(db, telemetry):
    job = await make_job(db)
    await apply(db, job, metrics_event(1, {"loss": [1.0, 2.0, 3.0], "lr": [0.1, 0.2, 0.3]}, [1, 2, 3]))
    await apply(db, job, metrics_event(2, {"eval": [7.0]}, [3]))
    await end_run(db, job.run_id)
    request = telemetry_pb2.WatchMetricsRequest(run_id=job.run_id, names=["lr"], min_step=2)

    frames = [frame async for frame in telemetry.WatchMetrics(request)]

    assert [point for frame in frames for point in points(frame)] == [(1, "lr", 2, 0.2), (1, "lr", 3, 0.3)]


async def test_a_value_that_a_later_set_replaced_is_not_watched(db, telemetry):
    job = await make_job(db)
    await apply(db, job, metrics_event(1, {"loss": [1.0, 1.5], "lr": [0.1, 0.2]}, [1, 2]))
    await apply(db, job, metrics_event(2, {"loss": [2.0], "margin": [0.5]}, [1]))
    await end_run(db, job.run_id)

    frames = [frame async for frame in telemetry.WatchMetrics(telemetry_pb2.WatchMetricsRequest(run_id=job.run_id))]

    seen = {(name, step): value for frame in frames for _, name, step, value in points(frame)}
    assert seen == {("lr", 1): 0.1, ("loss", 2): 1.5, ("lr", 2): 0.2, ("loss", 1): 2.0, ("margin", 1): 0.5}


async def test_frames_are_small_however_much_there_is(db, telemetry):
    job = await make_job(db)
    await fill_metrics(db, job.run_id, names=[f"m{number}" for number in range(20)], points=10_000)
    await apply(db, job, *[logs_event(seq, ["x" * 10_000] * 20) for seq in range(1, 10)])
    await end_run(db, job.run_id)

    metrics = [one async for one in telemetry.WatchMetrics(telemetry_pb2.WatchMetricsRequest(run_id=job.run_id))]
    logs = [one async for one in telemetry.WatchLogs(telemetry_pb2.WatchLogsRequest(run_id=job.run_id))]

    assert sum(len(points(frame)) for frame in metrics) == 200_000
    assert sum(len(frame.lines.lines) for frame in logs) == 180
    assert max(frame.ByteSize() for frame in metrics + logs) < 300_000


async def test_a_log_is_read_page_by_page_and_filtered(db, telemetry):
    job = await make_job(db)
    for seq in range(1, 11):
        await apply(db, job, logs_event(seq, [f"step {seq}", f"loss 100%_{seq}"], stream=seq % 2 + 1))

    async def pages(**asked: object) -> list[list[str]]:
        found, token = [], ""
        while True:
            request = telemetry_pb2.QueryLogsRequest(run_id=job.run_id, page_token=token, **asked)
            page = await telemetry.QueryLogs(request)
            found.append([line.text for line in page.lines])
            token = page.next_page_token
            if not token:
                return found

    every = await pages(page_size=7)
    errors = await pages(stream=job_event_pb2.LOG_STREAM_STDERR)
    matching = await pages(contains="0%_1", page_size=1)

    texts = [text for seq in range(1, 11) for text in (f"step {seq}", f"loss 100%_{seq}")]
    assert [len(page) for page in every] == [7, 7, 6] and [text for page in every for text in page] == texts
    assert errors == [[text for seq in range(1, 11, 2) for text in (f"step {seq}", f"loss 100%_{seq}")]]
    assert matching == [["loss 100%_1"], ["loss 100%_10"]]


async def test_a_page_of_long_lines_stays_below_what_clients_receive_and_goes_on(db, telemetry):
    job = await make_job(db)
    for seq in range(1, 11):
        await apply(db, job, logs_event(seq, [f"{seq:06}" + "x" * 16_000 for _ in range(50)]))

    read, token = 0, ""
    while True:
        request = telemetry_pb2.QueryLogsRequest(run_id=job.run_id, page_size=1000, page_token=token)
        page = await telemetry.QueryLogs(request)
        assert page.ByteSize() < 3 << 20
        read, token = read + len(page.lines), page.next_page_token
        if not token:
            break

    assert read == 500
