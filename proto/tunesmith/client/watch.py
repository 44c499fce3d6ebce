"""Watches that survive a cut: generators which reconnect and go on after the last frame, without gap or repeat.

Each frame carries the token of its end; a token is taken over together with its frame, so the stream that replaces a
lost one begins right behind what the caller was given. A connection that breaks costs one notice, however many tries it
takes. A server that neither answers nor closes is caught too: heartbeats come every 5 s, and a stream silent for four
of them is cut from this side.
"""

from __future__ import annotations

import contextlib
import queue
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

from tunesmith.client.client import Client
from tunesmith.client.errors import ApiError
from tunesmith.v1 import run_pb2, telemetry_pb2

CONNECT_S = 3.0  # a watch that never began gives up after this
GIVE_UP_S = 300.0  # one that had begun waits this long for the server to come back
SILENCE_S = 20.0  # four missed heartbeats
FIRST_DELAY_S = 0.2
LONGEST_DELAY_S = 5.0

ENDED = frozenset({run_pb2.RUN_STATE_SUCCEEDED, run_pb2.RUN_STATE_FAILED, run_pb2.RUN_STATE_CANCELLED})

T = TypeVar("T")


@dataclass(frozen=True)
class Gap:
    """A watch lost its connection and is trying to go on. what: `run`, `metrics` or `log`."""

    what: str
    error: ApiError


OnGap = Callable[[Gap], None]


class _Frame(Protocol):
    @property
    def resume_token(self) -> str: ...


F = TypeVar("F", bound=_Frame)


def watch_run(client: Client, run_id: str, *, on_gap: OnGap | None = None) -> Iterator[run_pb2.WatchRunResponse]:
    """The run as it is, then after each change; ends after the terminal state. Never the same state twice in a row."""

    def begin(_: str) -> Iterator[run_pb2.WatchRunResponse]:
        return client.runs.WatchRun(run_pb2.WatchRunRequest(run_id=run_id))

    last = None
    for frame in _resumed(begin, "", "run", on_gap):
        if frame.HasField("run") and frame.run != last:
            last = frame.run
            yield frame


def watch_metrics(
    client: Client,
    run_id: str,
    *,
    names: Sequence[str] = (),
    min_step: int = 0,
    resume_token: str = "",
    on_gap: OnGap | None = None,
) -> Iterator[telemetry_pb2.WatchMetricsResponse]:
    """Frames with metric rows, from the token on, until the run has ended and all were given."""

    def begin(token: str) -> Iterator[telemetry_pb2.WatchMetricsResponse]:
        request = telemetry_pb2.WatchMetricsRequest(run_id=run_id, names=names, min_step=min_step, resume_token=token)
        return client.telemetry.WatchMetrics(request)

    return (frame for frame in _resumed(begin, resume_token, "metrics", on_gap) if frame.HasField("rows"))


def watch_logs(
    client: Client, run_id: str, *, resume_token: str = "", on_gap: OnGap | None = None
) -> Iterator[telemetry_pb2.WatchLogsResponse]:
    """Frames with log lines, from the token on, until the run has ended and all were given."""

    def begin(token: str) -> Iterator[telemetry_pb2.WatchLogsResponse]:
        return client.telemetry.WatchLogs(telemetry_pb2.WatchLogsRequest(run_id=run_id, resume_token=token))

    return (frame for frame in _resumed(begin, resume_token, "log", on_gap) if frame.HasField("lines"))


def _resumed(begin: Callable[[str], Iterator[F]], token: str, what: str, on_gap: OnGap | None) -> Iterator[F]:
    begun, lost_at, delay_s = False, None, FIRST_DELAY_S
    while True:
        try:
            for frame in _watched(begin(token)):
                begun, lost_at, delay_s = True, None, FIRST_DELAY_S
                token = frame.resume_token or token
                yield frame
            return
        except ApiError as error:
            now = time.monotonic()
            if lost_at is None:
                lost_at = now
                if begun and error.retryable and on_gap:
                    on_gap(Gap(what, error))
            if not error.retryable or now - lost_at > (GIVE_UP_S if begun else CONNECT_S):
                raise
            time.sleep(error.retry_after_s or delay_s)
            delay_s = min(delay_s * 2, LONGEST_DELAY_S)


def _watched(call: Any) -> Iterator[Any]:
    """The frames of a call, which is cut when it has been silent for too long and when nobody reads on."""
    heard, ended = [time.monotonic()], threading.Event()

    def guard() -> None:
        while not ended.wait(1.0):
            if time.monotonic() - heard[0] > SILENCE_S:
                call.cancel()

    threading.Thread(target=guard, name="watch-guard", daemon=True).start()
    try:
        for frame in call:
            yield frame
            heard[0] = time.monotonic()
    finally:
        ended.set()
        call.cancel()


def merged(*streams: Iterator[T]) -> Iterator[T]:
    """What all the streams give, as it comes. Ends when all have ended; the first error is raised.

    Each stream is read on a thread of its own; closing the client ends those that are left.
    """
    items: queue.Queue[tuple[bool, Any]] = queue.Queue(maxsize=256)

    def read(stream: Iterator[T]) -> None:
        try:
            for item in stream:
                items.put((True, item))
            items.put((False, None))
        except Exception as error:  # handed to the caller, whatever it is
            items.put((False, error))

    for stream in streams:
        threading.Thread(target=read, args=(stream,), name="watch", daemon=True).start()
    open_streams = len(streams)
    while open_streams:
        more, item = _next_of(items)
        if more:
            yield item
        elif item is not None:
            raise item
        else:
            open_streams -= 1


def _next_of(items: queue.Queue[tuple[bool, Any]]) -> tuple[bool, Any]:
    """The next item; waits in short turns, so that Ctrl-C is heard at once on every platform."""
    while True:
        with contextlib.suppress(queue.Empty):
            return items.get(timeout=0.5)
