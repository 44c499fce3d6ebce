from __future__ import annotations

import json

import pytest

from tests.cli.plane_state import RUN, Gone, id_of, refuse
from tests.contract.descriptors import NODES_OWN, SERVICES
from tunesmith.client import channel
from tunesmith.client.calls import with_request_id
from tunesmith.client.client import Client
from tunesmith.client.errors import ApiError
from tunesmith.v1 import experiment_pb2, node_pb2, run_pb2


def services():
    return {service.name: service for service in SERVICES if service.name != NODES_OWN}


def test_every_stream_is_left_out_of_the_retries_and_nothing_unknown_is_named():
    assert set(channel.RETRIED_SERVICES) == set(services())
    for service, method in channel.NEVER_RETRIED:
        assert method in services()[service].methods_by_name
    streams = {
        (name, method.name)
        for name, service in services().items()
        for method in service.methods
        if method.server_streaming or method.client_streaming
    }
    assert streams <= set(channel.NEVER_RETRIED)


def test_the_service_config_is_what_grpc_reads():
    config = json.loads(channel.service_config())

    assert config["methodConfig"][0]["retryPolicy"]["retryableStatusCodes"] == ["UNAVAILABLE"]
    assert "retryPolicy" not in config["methodConfig"][1]


def test_a_frozen_peer_is_noticed_in_seconds():
    options = dict(channel.channel_options())

    assert options["grpc.http2.ping_timeout_ms"] <= 5_000
    assert options["grpc.keepalive_time_ms"] <= 10_000


def test_a_create_gets_a_request_id_of_its_own_and_keeps_one_that_it_has():
    request = run_pb2.CreateRunRequest(display_name="x")
    given = run_pb2.CreateRunRequest(request_id="mine-12345")

    first, second = with_request_id(request), with_request_id(request)

    assert first.request_id != second.request_id
    assert not request.HasField("request_id")
    assert with_request_id(given) is given
    get = run_pb2.GetRunRequest(run_id=RUN)
    assert with_request_id(get) is get


def test_a_server_that_is_away_for_a_moment_is_asked_again_with_the_same_request_id(fake, client):
    seen = []

    def away_at_first(request, context):
        seen.append(request.request_id)
        if len(seen) < 3:
            refuse(context, Gone("its database is away"))

    fake.state.before["CreateRun"] = away_at_first

    experiment = experiment_pb2.Experiment(experiment_id=id_of("exp", 1))
    fake.state.experiments.append(experiment)

    client.runs.CreateRun(run_pb2.CreateRunRequest(experiment_id=experiment.experiment_id))

    assert len(seen) == 3
    assert len(set(seen)) == 1


def test_an_error_carries_reason_fields_metadata_and_request_id(fake, client):
    from tunesmith.errors import FieldProblem

    class Locked(Gone):
        reason = "ETAG_MISMATCH"

    fake.state.failure = Locked("read it again", fields=[FieldProblem("etag", "old")], etag="2")

    with pytest.raises(ApiError) as caught:
        client.runs.GetRun(run_pb2.GetRunRequest(run_id=RUN))

    error = caught.value
    assert (error.reason, error.code, error.message) == ("ETAG_MISMATCH", "ABORTED", "read it again")
    assert error.fields == (FieldProblem("etag", "old"),)
    assert error.metadata["etag"] == "2"
    assert error.request_id == "req-1234"


def test_a_method_that_the_server_does_not_know_is_no_broken_connection(fake, client):
    with pytest.raises(ApiError) as caught:
        client.nodes.ListNodes(node_pb2.ListNodesRequest())

    assert (caught.value.reason, caught.value.code) == ("UNIMPLEMENTED", "UNIMPLEMENTED")


def test_a_total_timeout_bounds_every_call(nobody):
    with Client(nobody, total_timeout_s=0.05) as client, pytest.raises(ApiError) as caught:
        client.runs.GetRun(run_pb2.GetRunRequest(run_id=RUN))

    assert caught.value.code in ("DEADLINE_EXCEEDED", "UNAVAILABLE")
