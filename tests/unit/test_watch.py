"""The loop of every watch, over sources in memory."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import TypeVar

import pytest

from services.rpc.watch import Frame, InvalidResumeToken, resumed, token, watch
from tunesmith.v1 import telemetry_pb2

T = TypeVar("T")
RUN = "run_" + "0" * 26
OTHER_RUN = "run_" + "1" * 26


class Numbers:
    """Counts up; a place is how many were read."""

    def __init__(self, *numbers: int, ended: bool = False) -> None:
        self.numbers = list(numbers)
        self.ended = ended
        self.reads = 0
        self.wake = asyncio.Event()

    def add(self, *numbers: int, wake: bool = True) -> None:
        self.numbers += numbers
        if wake:
            self.wake.set()

    async def finished(self) -> bool:
        return self.ended

    async def read(self, after: int) -> tuple[int, list[int] | None]:
        self.reads += 1
        rows = self.numbers[after : after + 2]
        return (after + len(rows), rows) if rows else (after, None)


async def everything(frames: AsyncIterator[Frame[int, list[int]]]) -> list[int]:
    return [number async for frame in frames for number in frame.rows or ()]


async def soon(item: asyncio.Future[T] | AsyncIterator[T]) -> T:
    return await asyncio.wait_for(anext(item), 5)


async def test_a_watch_of_something_that_has_ended_sends_all_of_it_and_ends():
    source = Numbers(1, 2, 3, 4, 5, ended=True)

    sent = await everything(watch(source, after=0, wake=source.wake))

    assert sent == [1, 2, 3, 4, 5]


async def test_a_watch_goes_on_behind_its_place():
    source = Numbers(1, 2, 3, 4, 5, ended=True)

    sent = await everything(watch(source, after=3, wake=source.wake))

    assert sent == [4, 5]


async def test_what_is_added_is_sent_at_once_without_waiting_for_a_poll():
    source = Numbers(1)
    async with aclosing(watch(source, after=0, wake=source.wake, poll_s=60, heartbeat_s=60)) as frames:
        first = await soon(frames)
        waiting = asyncio.create_task(anext(frames))
        await asyncio.sleep(0)

        source.add(2)

        assert first.rows == [1]
        assert (await asyncio.wait_for(waiting, 5)).rows == [2]


async def test_a_lost_wake_up_costs_one_poll_and_no_row():
    source = Numbers(1)
    async with aclosing(watch(source, after=0, wake=source.wake, poll_s=0.01, heartbeat_s=60)) as frames:
        await soon(frames)
        waiting = asyncio.create_task(anext(frames))
        await asyncio.sleep(0)

        source.add(2, wake=False)

        assert (await asyncio.wait_for(waiting, 5)).rows == [2]


async def test_a_wake_up_between_the_read_and_the_wait_is_not_lost():
    class Racing(Numbers):
        async def read(self, after: int) -> tuple[int, list[int] | None]:
            found = await super().read(after)
            if self.reads == 2:  # after this read has found nothing, before the loop waits
                self.add(2)
            return found

    source = Racing(1)
    async with aclosing(watch(source, after=0, wake=source.wake, poll_s=60, heartbeat_s=60)) as frames:
        await soon(frames)

        assert (await soon(frames)).rows == [2]


async def test_what_is_added_between_the_read_and_the_end_is_still_sent():
    class Ending(Numbers):
        async def read(self, after: int) -> tuple[int, list[int] | None]:
            found = await super().read(after)
            if self.reads == 2:
                self.add(2)
                self.ended = True
            return found

    source = Ending(1)

    sent = await asyncio.wait_for(everything(watch(source, after=0, wake=source.wake)), 5)

    assert sent == [1, 2]


async def test_a_silent_watch_says_at_once_and_again_and_again_that_it_lives():
    source = Numbers()
    async with aclosing(watch(source, after=0, wake=source.wake, poll_s=60, heartbeat_s=0.02)) as frames:
        beats = [await soon(frames) for _ in range(3)]

    assert [beat.rows for beat in beats] == [None, None, None]


async def test_a_reader_that_does_not_read_holds_one_frame_only():
    source = Numbers(*range(100))
    async with aclosing(watch(source, after=0, wake=source.wake)) as frames:
        await soon(frames)
        await asyncio.sleep(0.01)

        assert source.reads == 1


async def test_a_place_survives_its_token():
    request = telemetry_pb2.WatchLogsRequest(run_id=RUN)

    request.resume_token = token(request, (1, 0, 2**40, 7))

    assert resumed(request, (0, 0, 0, 0)) == (1, 0, 2**40, 7)


async def test_a_watch_without_a_token_begins_at_the_beginning():
    assert resumed(telemetry_pb2.WatchLogsRequest(run_id=RUN), (0, 0)) == (0, 0)


@pytest.mark.parametrize(
    "foreign",
    [
        token(telemetry_pb2.WatchLogsRequest(run_id=OTHER_RUN), (1, 2, 3)),
        token(telemetry_pb2.WatchMetricsRequest(run_id=RUN, names=["loss"]), (1, 2, 3)),
        token(telemetry_pb2.WatchLogsRequest(run_id=RUN), (1, 2, 3)),
        token(telemetry_pb2.WatchMetricsRequest(run_id=RUN), (1, 2)),
        token(telemetry_pb2.WatchMetricsRequest(run_id=RUN), (1, -2, 3)),
        token(telemetry_pb2.WatchMetricsRequest(run_id=RUN), (1, 2, 2**63)),
        "AAAA",
        "no token, no base64: ü",
    ],
    ids=["run", "filters", "kind", "short", "negative", "huge", "bytes", "text"],
)
async def test_a_foreign_token_is_refused(foreign):
    request = telemetry_pb2.WatchMetricsRequest(run_id=RUN, resume_token=foreign)

    with pytest.raises(InvalidResumeToken, match="start again without it"):
        resumed(request, (0, 0, 0))
