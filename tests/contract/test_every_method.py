"""What holds for every method, whatever it does: bad input is refused with a reason, and never as a bug."""

from __future__ import annotations

import pytest

from tests.contract.methods import METHODS, put, texts
from tests.support.edge import refusal
from tunesmith.v1 import error_reason_pb2

REASONS = {name.removeprefix("ERROR_REASON_") for name in error_reason_pb2.ErrorReason.DESCRIPTOR.values_by_name}
BUGS = {"INTERNAL", "UNKNOWN"}
ID_PREFIX = {"run_id": "run_", "experiment_id": "exp_", "dataset_id": "dst_", "dataset_version_id": "dsv_"} | {
    "adapter_id": "adp_",
    "node_id": "nod_",
}

every_method = pytest.mark.parametrize("method", METHODS, ids=lambda method: method.name)


def require_typed(refused) -> None:
    assert refused.info.domain == "tunesmith.v1"
    assert refused.reason in REASONS and refused.code.name not in BUGS
    assert refused.info.metadata["request_id"]
    assert len(refused.text) > 20, "a refusal says what to do"


@every_method
async def test_bytes_that_are_no_message_are_refused(plane, method):
    refused = await refusal(method.call(plane.channel, b"\xff\xff\xff"))

    require_typed(refused)
    assert refused.reason == "MALFORMED_REQUEST"


@every_method
async def test_an_empty_request_is_answered_or_refused_with_a_reason(plane, method):
    request = method.request_type()
    needs = [field for field in request.DESCRIPTOR.fields if field.name in ID_PREFIX or field.name == "digest"]
    call = method.call(plane.channel, request.SerializeToString())

    if needs and not method.descriptor.name.startswith("List"):
        refused = await refusal(call)
        require_typed(refused)
        assert refused.code.name == "INVALID_ARGUMENT"


@every_method
async def test_an_id_that_nothing_has_is_not_found(plane, method):
    request = method.request_type()
    ids = [field.name for field in request.DESCRIPTOR.fields if field.name in ID_PREFIX]
    if not ids or ids[0] in ("experiment_id", "dataset_id") and method.descriptor.name in FILTERED:
        pytest.skip("takes no id of its own")
    setattr(request, ids[0], ID_PREFIX[ids[0]] + "0" * 26)
    for field in request.DESCRIPTOR.fields:
        if field.name == "samples":
            request.samples.add(prompt="a", audio_digest="a" * 64, rating=3)

    refused = await refusal(method.call(plane.channel, request.SerializeToString()))

    require_typed(refused)
    assert refused.code.name == "NOT_FOUND"


FILTERED = {"ListRuns", "ListAdapters", "ListDatasetVersions"}  # a filter that nothing passes gives an empty page


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


@every_method
async def test_a_negative_page_size_is_refused_and_a_huge_one_is_not(plane, method):
    request = method.request_type()
    if "page_size" not in request.DESCRIPTOR.fields_by_name:
        pytest.skip("is no list")
    request.page_size = -1

    refused = await refusal(method.call(plane.channel, request.SerializeToString()))

    require_typed(refused)
    assert "page_size" in refused.fields


@every_method
async def test_a_page_token_of_nobody_is_refused(plane, method):
    request = method.request_type()
    if "page_token" not in request.DESCRIPTOR.fields_by_name:
        pytest.skip("is no list")
    request.page_token = "bm90LWEtdG9rZW4"
    plane.fill(request)

    refused = await refusal(method.call(plane.channel, request.SerializeToString()))

    require_typed(refused)
    assert refused.reason == "INVALID_PAGE_TOKEN"
