from __future__ import annotations

import threading

import pytest

from tests.cli.plane_state import RUN
from tunesmith.client import watch
from tunesmith.client.client import Client
from tunesmith.client.errors import ApiError, Unreachable
from tunesmith.client.watch import merged, watch_logs, watch_metrics, watch_run


def texts(frames):
    return [line.text for frame in frames for line in frame.lines.lines]


def test_a_watch_that_is_cut_goes_on_without_gap_or_repeat(fake, client):
    fake.add_run("SUCCEEDED")
    fake.state.log_lines = [f"line {number}" for number in range(10)]
    fake.state.cuts["logs"] = [3, 0, 4]

    assert texts(watch_logs(client, RUN)) == fake.state.log_lines
    assert fake.state.tokens == ["", "3", "3", "7"]


def test_each_gap_is_noticed_once_however_many_tries_it_takes(fake, client):
    fake.add_run("SUCCEEDED")
    fake.state.log_lines = [f"line {number}" for number in range(6)]
    fake.state.cuts["logs"] = [2, 0, 0, 0, 2]
    gaps = []

    texts(watch_logs(client, RUN, on_gap=gaps.append))

    assert [(gap.what, gap.error.reason) for gap in gaps] == [("log", "UNAVAILABLE")] * 2


def test_a_watch_may_begin_at_a_token(fake, client):
    fake.add_run("SUCCEEDED")
    fake.state.log_lines = ["a", "b", "c"]

    assert texts(watch_logs(client, RUN, resume_token="2")) == ["c"]


def test_a_run_is_not_shown_twice_in_the_same_state(fake, client):
    fake.add_run("SUCCEEDED", earlier=["RUNNING"])
    fake.state.cuts["run"] = [1]

    states = [frame.run.state for frame in watch_run(client, RUN)]

    assert states == [watch.run_pb2.RUN_STATE_RUNNING, watch.run_pb2.RUN_STATE_SUCCEEDED]


def test_a_refusal_ends_a_watch_at_once(fake, client):
    gaps = []

    with pytest.raises(ApiError) as caught:
        texts(watch_logs(client, RUN, on_gap=gaps.append))

    assert caught.value.reason == "RUN_NOT_FOUND"
    assert gaps == []


def test_a_watch_that_never_began_gives_up_soon(nobody, monkeypatch):
    monkeypatch.setattr(watch, "CONNECT_S", 0.1)

    with Client(nobody) as client, pytest.raises(Unreachable):
        texts(watch_logs(client, RUN))


def test_a_silent_server_is_left_and_asked_again(fake, client, monkeypatch):
    forgotten = threading.Event()

    def stuck_at_first(request, context):
        if len(fake.state.tokens) == 1:
            forgotten.wait(30)  # no frame, no heartbeat, no end

    fake.state.before["WatchLogs"] = stuck_at_first
    fake.add_run("SUCCEEDED")
    fake.state.log_lines = ["a"]
    monkeypatch.setattr(watch, "SILENCE_S", 0.2)

    assert texts(watch_logs(client, RUN)) == ["a"]
    assert fake.state.tokens == ["", ""]
    forgotten.set()


def test_streams_are_merged_and_the_first_error_is_raised(fake, client):
    fake.add_run("SUCCEEDED", earlier=["RUNNING"])
    fake.state.losses = [1.0, 0.5]

    frames = list(merged(watch_run(client, RUN), watch_metrics(client, RUN)))

    assert len(frames) == 4

    def broken():
        yield 1
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        list(merged(iter([1, 2]), broken()))


def test_the_command_line_says_once_that_a_connection_was_lost(cli, fake):
    fake.add_run("SUCCEEDED")
    fake.state.log_lines = ["a", "b", "c"]
    fake.state.cuts["logs"] = [1, 0]

    result = cli("run", "logs", "-f", RUN)

    assert result.out == "a\nb\nc\n"
    assert result.err.count("connection to") == 1


def test_a_timeout_ends_a_watch_with_exit_code_124(cli, fake):
    fake.add_run("RUNNING")
    forgotten = threading.Event()
    fake.state.before["WatchLogs"] = lambda *_: forgotten.wait(30)

    result = cli("run", "logs", "-f", RUN, "--timeout", "0.3")

    forgotten.set()
    assert result.code == 124
    assert "error[DEADLINE_EXCEEDED]: no answer from" in result.err
