"""Health, reflection and channelz, as standard tools ask for them."""

from __future__ import annotations

import grpc
import pytest
from google.protobuf import descriptor_pb2
from grpc_channelz.v1 import channelz_pb2, channelz_pb2_grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from services.rpc.server import build_server, serving
from services.server_service import MAX_BLOB_BYTES, ServerFacts, ServerService
from tests.support.edge import edge
from tunesmith.v1 import blob_pb2, server_pb2, server_pb2_grpc

FACTS = ServerFacts(database="embedded", schema_version="0001")
SERVING = health_pb2.HealthCheckResponse.SERVING


@pytest.mark.parametrize("service", ["", "tunesmith.v1.ServerService"])
async def test_health_says_serving_of_the_server_and_of_each_service(service):
    async with edge([ServerService(FACTS)]) as channel:
        answer = await health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(service=service))

    assert answer.status == SERVING


async def test_health_watchers_are_told_when_the_server_goes_down():
    server = build_server([ServerService(FACTS)], listen="127.0.0.1:0")
    async with grpc.aio.insecure_channel(server.address) as channel:
        async with serving(server):
            watch = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest())
            before = (await watch.read()).status
        after = (await watch.read()).status

    assert (before, after) == (SERVING, health_pb2.HealthCheckResponse.NOT_SERVING)


async def test_reflection_serves_every_service_and_its_file():
    requests = [
        reflection_pb2.ServerReflectionRequest(list_services=""),
        reflection_pb2.ServerReflectionRequest(file_containing_symbol="tunesmith.v1.ServerService"),
    ]
    async with edge([ServerService(FACTS)]) as channel:
        stub = reflection_pb2_grpc.ServerReflectionStub(channel)
        listed, found = [answer async for answer in stub.ServerReflectionInfo(iter(requests))]

    names = {service.name for service in listed.list_services_response.service}
    assert names == {"tunesmith.v1.ServerService", "grpc.health.v1.Health", "grpc.reflection.v1alpha.ServerReflection"}
    served = found.file_descriptor_response.file_descriptor_proto
    files = [descriptor_pb2.FileDescriptorProto.FromString(data) for data in served]
    assert "tunesmith/v1/server.proto" in {file.name for file in files}


async def test_channelz_lists_the_server():
    async with edge([ServerService(FACTS)]) as channel:
        answer = await channelz_pb2_grpc.ChannelzStub(channel).GetServers(channelz_pb2.GetServersRequest())

    assert len(answer.server) >= 1


async def test_the_server_tells_its_version_and_limits():
    async with edge([ServerService(FACTS)]) as channel:
        info = await server_pb2_grpc.ServerServiceStub(channel).GetServerInfo(server_pb2.GetServerInfoRequest())

    assert (info.database, info.schema_version) == ("embedded", "0001")
    assert (info.max_message_bytes, info.max_page_size, info.max_clip_s) == (4 * 1024**2, 1000, 600)
    assert info.version and info.start_time.seconds > 0


def test_the_largest_blob_is_the_one_of_the_contract():
    from buf.validate import validate_pb2

    options = blob_pb2.UploadBlobRequest.DESCRIPTOR.fields_by_name["size_bytes"].GetOptions()

    assert options.Extensions[validate_pb2.field].int64.lte == MAX_BLOB_BYTES
