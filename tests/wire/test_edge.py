"""What every call goes through, whichever service it is for."""

from __future__ import annotations

import asyncio
import signal
import sys
import time

import grpc
import pytest
from structlog.testing import capture_logs

from services.rpc import interceptors
from services.rpc.errors import GoingDown
from services.rpc.server import ServerOptions, build_server, serving
from services.settings import ConfigError
from tests.support.edge import edge, refusal
from tunesmith.errors import FieldProblem, InvalidField
from tunesmith.v1 import blob_pb2, blob_pb2_grpc, run_pb2, run_pb2_grpc, server_pb2, server_pb2_grpc

RUN_ID = "run_" + "0" * 26


class Runs(run_pb2_grpc.RunServiceServicer):
    """Answers GetRun and WatchRun as the test says."""

    def __init__(self, act) -> None:
        self.act = act

    async def GetRun(self, request, context):
        await self.act()
        return run_pb2.GetRunResponse()

    async def WatchRun(self, request, context):
        yield run_pb2.WatchRunResponse()
        await self.act()
        yield run_pb2.WatchRunResponse()


class Uploads(blob_pb2_grpc.BlobServiceServicer):
    """Counts what it is sent."""

    async def UploadBlob(self, request_iterator, context):
        sizes = [len(message.data) async for message in request_iterator]
        return blob_pb2.UploadBlobResponse(size_bytes=sum(sizes))


def raising(error: Exception):
    async def act() -> None:
        raise error

    return act


async def sleeping() -> None:
    await asyncio.sleep(60)


def get_run(channel: grpc.aio.Channel, **options):
    return run_pb2_grpc.RunServiceStub(channel).GetRun(run_pb2.GetRunRequest(run_id=RUN_ID), **options)


def watch_run(channel: grpc.aio.Channel):
    return run_pb2_grpc.RunServiceStub(channel).WatchRun(run_pb2.WatchRunRequest(run_id=RUN_ID))


async def test_an_unforeseen_error_tells_the_caller_nothing_but_the_request_id():
    async with edge([Runs(raising(ZeroDivisionError("secret /path")))]) as channel:
        with capture_logs() as lines:
            refused = await refusal(get_run(channel, metadata=(("x-request-id", "req-1234"),)))

    assert (refused.code, refused.reason) == (grpc.StatusCode.INTERNAL, "INTERNAL")
    assert "req-1234" in refused.text and "secret" not in refused.text and "ZeroDivision" not in refused.text
    assert refused.info.metadata["request_id"] == refused.trailing["x-request-id"] == "req-1234"
    crashed = [line for line in lines if line["event"] == "rpc_crashed"]
    assert isinstance(crashed[0]["exc_info"], ZeroDivisionError)


async def test_a_stream_that_fails_in_the_middle_answers_like_a_unary_call():
    async with edge([Runs(raising(KeyError("secret")))]) as channel:
        refused = await refusal(watch_run(channel))

    assert (refused.code, refused.reason) == (grpc.StatusCode.INTERNAL, "INTERNAL")


async def test_a_refusal_names_its_fields_and_fits_into_metadata():
    problems = [
        FieldProblem(f"samples[{row}].audio_digest", "the file ends early; export it again") for row in range(1000)
    ]
    async with edge([Runs(raising(InvalidField.of(problems)))]) as channel:
        refused = await refusal(get_run(channel))

    assert refused.code is grpc.StatusCode.INVALID_ARGUMENT
    assert 20 < len(refused.fields) < 100 and refused.info.metadata["field_count"] == "1000"
    assert "samples[0].audio_digest" in refused.fields and "997 more" in refused.text


async def test_unavailable_says_when_to_come_back():
    async with edge([Runs(raising(GoingDown("the server is going down; connect again")))]) as channel:
        refused = await refusal(get_run(channel))

    assert (refused.code, refused.retry_s) == (grpc.StatusCode.UNAVAILABLE, 1.0)


async def test_an_exception_of_a_library_is_translated():
    async with edge([Runs(raising(OSError()))], translate=lambda error: GoingDown("away; try again")) as channel:
        refused = await refusal(get_run(channel))

    assert refused.reason == "UNAVAILABLE"


async def test_bytes_that_are_no_message_are_malformed_in_every_call_shape():
    async with edge([Runs(sleeping), Uploads()]) as channel:
        unary = await refusal(channel.unary_unary("/tunesmith.v1.RunService/GetRun")(b"\xff\xff"))
        stream = await refusal(channel.unary_stream("/tunesmith.v1.RunService/WatchRun")(b"\xff\xff"))
        upload = await refusal(channel.stream_unary("/tunesmith.v1.BlobService/UploadBlob")(iter([b"\xff\xff"])))

    for refused, name in ((unary, "GetRunRequest"), (stream, "WatchRunRequest"), (upload, "UploadBlobRequest")):
        assert (refused.code, refused.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "MALFORMED_REQUEST")
        assert name in refused.text and "Exception" not in refused.text


async def test_the_rules_of_the_contract_hold_for_the_first_message_of_an_upload():
    async with edge([Uploads()]) as channel:
        stub = blob_pb2_grpc.BlobServiceStub(channel)
        refused = await refusal(stub.UploadBlob(iter([blob_pb2.UploadBlobRequest(digest="../../etc/passwd")])))
        good = [
            blob_pb2.UploadBlobRequest(digest="a" * 64, size_bytes=4, data=b"ab"),
            blob_pb2.UploadBlobRequest(data=b"cd"),
        ]
        stored = await stub.UploadBlob(iter(good))

    assert list(refused.fields) == ["digest"]
    assert stored.size_bytes == 4


async def test_a_request_above_the_limit_is_refused_with_the_limit():
    request = run_pb2.GetRunRequest(run_id="x" * (5 * 1024 * 1024))
    async with edge([Runs(sleeping)]) as channel:
        refused = await refusal(run_pb2_grpc.RunServiceStub(channel).GetRun(request))

    assert (refused.code, refused.reason) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "REQUEST_TOO_LARGE")
    assert "4194304" in refused.text


async def test_an_enormous_request_is_refused_before_it_is_read():
    request = run_pb2.GetRunRequest(run_id="x" * (20 * 1024 * 1024))
    async with edge([Runs(sleeping)]) as channel:
        refused = await refusal(run_pb2_grpc.RunServiceStub(channel).GetRun(request))

    assert refused.code is grpc.StatusCode.RESOURCE_EXHAUSTED


async def test_an_unknown_method_is_unimplemented_for_callers_of_every_shape():
    async with edge([Runs(sleeping)]) as channel:
        unary = await refusal(channel.unary_unary("/tunesmith.v1.RunService/Nothing")(b""))
        stream = await refusal(channel.unary_stream("/tunesmith.v9.Other/Nothing")(b""))

    assert [unary.reason, stream.reason] == ["UNIMPLEMENTED", "UNIMPLEMENTED"]
    assert unary.code is grpc.StatusCode.UNIMPLEMENTED


async def test_a_method_that_its_servicer_lacks_is_unimplemented():
    class Nothing(server_pb2_grpc.ServerServiceServicer):
        pass

    async with edge([Nothing()]) as channel:
        refused = await refusal(
            server_pb2_grpc.ServerServiceStub(channel).GetServerInfo(server_pb2.GetServerInfoRequest())
        )

    assert refused.reason == "UNIMPLEMENTED"


async def test_a_unary_call_without_a_deadline_ends_at_the_servers(monkeypatch):
    monkeypatch.setattr(interceptors, "UNARY_DEFAULT_S", 0.05)
    async with edge([Runs(sleeping)]) as channel:
        refused = await refusal(get_run(channel))

    assert (refused.code, refused.reason) == (grpc.StatusCode.DEADLINE_EXCEEDED, "DEADLINE_EXCEEDED")


async def test_a_caller_cannot_ask_for_more_time_than_the_cap(monkeypatch):
    monkeypatch.setattr(interceptors, "UNARY_CAP_S", 0.05)
    async with edge([Runs(sleeping)]) as channel:
        refused = await refusal(get_run(channel, timeout=3600))

    assert refused.reason == "DEADLINE_EXCEEDED"


async def test_a_method_that_works_for_long_has_a_cap_of_its_own(monkeypatch):
    monkeypatch.setattr(interceptors, "UNARY_CAP_S", 0.01)
    monkeypatch.setattr(interceptors, "UNARY_DEFAULT_S", 0.01)
    monkeypatch.setattr(interceptors, "LONG_S", {"/tunesmith.v1.RunService/GetRun": 5.0})
    async with edge([Runs(lambda: asyncio.sleep(0.1))]) as channel:
        assert await get_run(channel) == await get_run(channel, timeout=60)


async def test_a_stream_has_no_deadline_of_the_servers(monkeypatch):
    monkeypatch.setattr(interceptors, "UNARY_DEFAULT_S", 0.05)
    async with edge([Runs(lambda: asyncio.sleep(0.2))]) as channel:
        frames = [frame async for frame in watch_run(channel)]

    assert len(frames) == 2


async def test_every_answer_carries_the_request_id_and_a_bad_one_is_replaced():
    async with edge([Runs(lambda: asyncio.sleep(0))]) as channel:
        kept = get_run(channel, metadata=(("x-request-id", "abc-123"),))
        replaced = get_run(channel, metadata=(("x-request-id", "no spaces; or signs"),))
        await kept, await replaced
        ids = [dict(await call.trailing_metadata())["x-request-id"] for call in (kept, replaced)]

    assert ids[0] == "abc-123"
    assert len(ids[1]) == 32


async def test_a_call_leaves_one_line_in_the_log():
    refusing = raising(InvalidField.of([FieldProblem("run_id", "unknown")]))
    with capture_logs() as lines:  # until the server has stopped: the line comes after the answer
        async with edge([Runs(refusing)]) as channel:
            await refusal(get_run(channel))

    (line,) = [line for line in lines if line["event"] == "rpc_served"]
    assert line["code"] == "INVALID_ARGUMENT" and line["reason"] == "INVALID_FIELD"
    assert line["ms"] >= 0 and line["peer"].startswith("ipv4:127.0.0.1")


async def test_what_nodes_say_every_few_seconds_is_no_news(monkeypatch):
    monkeypatch.setattr(interceptors, "PERIODIC", frozenset({"/tunesmith.v1.RunService/GetRun"}))
    with capture_logs() as lines:
        async with edge([Runs(lambda: asyncio.sleep(0))]) as channel:
            await get_run(channel)
        async with edge([Runs(raising(KeyError()))]) as channel:
            await refusal(get_run(channel))

    served = [(line["code"], line["log_level"]) for line in lines if line["event"] == "rpc_served"]
    assert served == [("OK", "debug"), ("INTERNAL", "info")]


async def test_a_caller_that_leaves_ends_the_servicers_work():
    ended = asyncio.Event()

    async def act() -> None:
        try:
            await asyncio.sleep(60)
        finally:
            ended.set()

    async with edge([Runs(act)]) as channel:
        call = watch_run(channel)
        await call.read()
        call.cancel()
        await asyncio.wait_for(ended.wait(), 5)


async def test_going_down_ends_streams_at_once_with_unavailable():
    server = build_server([Runs(sleeping)], listen="127.0.0.1:0")
    async with grpc.aio.insecure_channel(server.address) as channel:
        async with serving(server):
            calls = [watch_run(channel) for _ in range(10)]
            for call in calls:
                await call.read()
            begun = time.monotonic()
        took_s = time.monotonic() - begun
        refused = [await refusal(call.read()) for call in calls]

    assert took_s < 4, "streams were waited for until the end of the grace"
    assert {answer.reason for answer in refused} == {"UNAVAILABLE"}
    assert all(answer.retry_s == 1.0 for answer in refused)


async def test_going_down_lets_a_unary_call_end():
    server = build_server([Runs(lambda: asyncio.sleep(0.2))], listen="127.0.0.1:0")
    async with grpc.aio.insecure_channel(server.address) as channel:
        async with serving(server):
            call = asyncio.ensure_future(get_run(channel))
            await asyncio.sleep(0.05)

        assert await call == run_pb2.GetRunResponse()


CLIENT = """
import sys
import grpc
from tunesmith.v1 import run_pb2, run_pb2_grpc
channel = grpc.insecure_channel(sys.argv[1])
for frame in run_pb2_grpc.RunServiceStub(channel).WatchRun(run_pb2.WatchRunRequest(run_id="run_" + "0" * 26)):
    print("watching", flush=True)
"""


async def test_a_frozen_caller_is_noticed_within_seconds():
    ended = asyncio.Event()

    async def act() -> None:
        try:
            await asyncio.sleep(60)
        finally:
            ended.set()

    options = ServerOptions(keepalive_s=1, ping_timeout_s=1, grace_s=0)
    async with serving(build_server([Runs(act)], listen="127.0.0.1:0", options=options)) as address:
        client = await asyncio.create_subprocess_exec(
            *(sys.executable, "-c", CLIENT, address),
            stdout=asyncio.subprocess.PIPE,
            env={"PYTHONPATH": "proto", "PATH": "/usr/bin:/bin", "GRPC_VERBOSITY": "ERROR"},
        )
        assert client.stdout is not None and await client.stdout.readline() == b"watching\n"
        client.send_signal(signal.SIGSTOP)
        try:
            await asyncio.wait_for(ended.wait(), 8)
        finally:
            client.kill()
            await client.wait()


async def test_a_second_server_on_a_port_is_refused_with_a_sentence():
    first = build_server([], listen="127.0.0.1:0")
    async with serving(first) as address:
        with pytest.raises(ConfigError, match=r"cannot be bound.*choose another port"):
            build_server([], listen=address)


@pytest.mark.parametrize("listen", ["0.0.0.0:0", "[::]:0", "192.168.1.1:0", "example.org:0", ":0"])
async def test_an_address_beyond_this_machine_needs_insecure(listen):
    with pytest.raises(ConfigError, match="insecure = true"):
        build_server([], listen=listen)


async def test_insecure_allows_every_address():
    server = build_server([], listen="0.0.0.0:0", insecure=True)

    assert not server.address.endswith(":0")
    await server.grpc_server.stop(None)


@pytest.mark.parametrize("listen", ["127.0.0.1", "127.0.0.1:http", "127.0.0.1:70000", ""])
async def test_what_is_no_address_is_refused(listen):
    with pytest.raises(ConfigError, match="host:port"):
        build_server([], listen=listen)
