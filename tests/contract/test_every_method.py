"""What holds for every method, whatever it does: bad input is refused with a reason, and never as a bug."""

from __future__ import annotations

import grpc
import pytest
from google.protobuf.message import Message

from tests.contract.methods import METHODS, Method, put, texts
from tests.support.control_plane import fresh_digest
from tests.support.edge import Refusal, refusal
from tunesmith.v1 import dataset_pb2, error_reason_pb2

REASONS = {name.removeprefix("ERROR_REASON_") for name in error_reason_pb2.ErrorReason.DESCRIPTOR.values_by_name}
BUGS = {"INTERNAL", "UNKNOWN"}
PREFIXES = {
    "run_id": "run_",
    "experiment_id": "exp_",
    "dataset_id": "dst_",
    "dataset_version_id": "dsv_",
    "adapter_id": "adp_",
    "model_id": "mdl_",
    "node_id": "nod_",
}
# Where an id is a filter, one that nothing has gives an empty page.
FILTERED = {
    "RunService/ListRuns",
    "AdapterService/ListAdapters",
    "ModelService/ListModels",
    "DatasetService/ListDatasetVersions",
}
# Where an id may be left out, and one that nothing has is not found all the same.
OPTIONAL = {"AdapterService/ListAdapterEvaluations"}
NO_IDS = ("../../etc/passwd", "run_short", "", "x" * 10_000, "run_" + "I" * 26)


def ids_of(method: Method) -> list[str]:
    """Fields of the request that are ids."""
    return [name for name in method.descriptor.input_type.fields_by_name if name in PREFIXES]


def name_of(method: Method) -> str:
    """What a test of a method is called."""
    return method.name


every_method = pytest.mark.parametrize("method", METHODS, ids=name_of)
METHODS_OF_AN_ID = [method for method in METHODS if ids_of(method) and method.name not in FILTERED]
every_method_of_an_id = pytest.mark.parametrize("method", METHODS_OF_AN_ID, ids=name_of)
every_list = pytest.mark.parametrize(
    "method",
    [method for method in METHODS if "page_token" in method.descriptor.input_type.fields_by_name],
    ids=name_of,
)


def require_typed(refused: Refusal) -> None:
    assert refused.info.domain == "tunesmith.v1"
    assert refused.reason in REASONS and refused.code.name not in BUGS, refused
    assert refused.info.metadata["request_id"] == refused.trailing["x-request-id"]
    assert len(refused.text) > 20, "a refusal says what to do"


def with_id(method: Method) -> Message | None:
    """A request whose first id is well-formed and belongs to nothing; None where the method takes no id."""
    request = method.request_type()
    ids = ids_of(method)
    if ids:
        setattr(request, ids[0], PREFIXES[ids[0]] + "0" * 26)
    if "samples" in request.DESCRIPTOR.fields_by_name:
        request.samples.add(prompt="a", audio_digest=fresh_digest(), rating=3)
    if "comparisons" in request.DESCRIPTOR.fields_by_name:
        clips = [dataset_pb2.RankedClip(audio_digest=fresh_digest(), rank=rank) for rank in (1, 2)]
        request.comparisons.add(prompt="a", clips=clips)
    return request if ids else None


@every_method
async def test_bytes_that_are_no_message_are_refused(plane, method):
    refused = await refusal(method.call(plane.channel, b"\xff\xff\xff"))

    require_typed(refused)
    assert refused.reason == "MALFORMED_REQUEST"


@every_method
async def test_an_empty_request_is_answered_or_refused_by_its_fields(plane, method):
    call = method.call(plane.channel, b"")
    try:
        answered = [message async for message in call] if hasattr(call, "__aiter__") else await call
    except grpc.aio.AioRpcError as error:
        refused = Refusal(error)
        require_typed(refused)
        assert refused.code is grpc.StatusCode.INVALID_ARGUMENT
        assert refused.fields or refused.reason == "UPLOAD_OFFSET"
    else:
        assert answered is not None


@every_method_of_an_id
async def test_an_id_that_nothing_has_is_not_found(plane, method):
    request = with_id(method)

    refused = await refusal(method.call(plane.channel, request.SerializeToString()))

    require_typed(refused)
    assert refused.code is grpc.StatusCode.NOT_FOUND
    assert "0" * 26 in refused.text


@pytest.mark.parametrize(
    ("method", "bad"),
    [(method, bad) for method in METHODS_OF_AN_ID for bad in NO_IDS if bad or method.name not in OPTIONAL],
)
async def test_what_is_no_id_is_refused_before_it_is_looked_for(plane, method, bad):
    request = method.request_type()
    name = ids_of(method)[0]
    setattr(request, name, bad)

    refused = await refusal(method.call(plane.channel, request.SerializeToString()))

    require_typed(refused)
    assert refused.reason == "INVALID_FIELD" and name in refused.fields


@every_method
async def test_a_nul_in_any_text_is_refused_by_its_field(plane, method):
    for path in texts(method.request_type.DESCRIPTOR):
        request = method.request_type()
        put(request, path, "a\0b")

        refused = await refusal(method.call(plane.channel, request.SerializeToString()))

        require_typed(refused)
        assert refused.reason == "INVALID_FIELD", path
        assert any(name.startswith(path[0].name) for name in refused.fields), (path, refused.fields)


@every_method
async def test_a_message_above_the_limit_is_refused_with_the_limit(plane, method):
    refused = await refusal(method.call(plane.channel, b"\0" * (4 * 1024 * 1024 + 1)))

    require_typed(refused)
    assert refused.reason == "REQUEST_TOO_LARGE" and "4194304" in refused.text


@every_list
async def test_a_negative_page_size_is_refused(plane, method):
    request = with_id(method) or method.request_type()
    request.page_size = -1

    refused = await refusal(method.call(plane.channel, request.SerializeToString()))

    require_typed(refused)
    assert "page_size" in refused.fields


@every_list
async def test_a_page_token_of_nobody_is_refused(plane, method):
    request = with_id(method) or method.request_type()
    request.page_token = "bm90LWEtdG9rZW4"

    refused = await refusal(method.call(plane.channel, request.SerializeToString()))

    require_typed(refused)
    assert refused.reason == "INVALID_PAGE_TOKEN"
