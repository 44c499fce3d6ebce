"""Pages and their tokens, without a server."""

from __future__ import annotations

import base64

import pytest

from services.rpc.errors import InvalidPageToken
from services.rpc.paging import MAX_PAGE_BYTES, cursor
from tunesmith.v1 import run_pb2


def request(**fields) -> run_pb2.ListRunsRequest:
    return run_pb2.ListRunsRequest(**fields)


def as_run(text: str) -> run_pb2.Run:
    return run_pb2.Run(run_id=text)


@pytest.mark.parametrize(("asked", "given"), [(0, 50), (1, 1), (1000, 1000), (1001, 1000), (2**31 - 1, 1000)])
def test_page_sizes_are_coerced(asked, given):
    assert cursor(request(page_size=asked)).page_size == given


def test_a_token_leads_to_the_entry_after_the_last_one_shown():
    shown, token = cursor(request(page_size=2)).cut(["c", "b", "a"], as_run, lambda text: text)

    assert [run.run_id for run in shown] == ["c", "b"]
    assert cursor(request(page_size=2, page_token=token)).after == "b"


def test_the_last_page_has_no_token():
    shown, token = cursor(request(page_size=2)).cut(["b", "a"], as_run, lambda text: text)

    assert (len(shown), token) == (2, "")


def test_a_page_is_full_before_it_is_too_large_to_receive():
    large = ["x" * (MAX_PAGE_BYTES // 3)] * 10

    shown, token = cursor(request(page_size=10)).cut(large, as_run, lambda text: "key")

    assert len(shown) == 2
    assert token


def test_an_entry_larger_than_a_page_is_shown_alone():
    shown, token = cursor(request(page_size=10)).cut(["x" * (MAX_PAGE_BYTES * 2), "y"], as_run, lambda text: "key")

    assert len(shown) == 1
    assert token


def test_a_token_may_be_used_with_another_page_size_but_not_with_another_filter():
    _, token = cursor(request(page_size=1, experiment_id="exp_1")).cut(["b", "a"], as_run, lambda text: text)

    assert cursor(request(page_size=9, experiment_id="exp_1", page_token=token)).after == "b"
    with pytest.raises(InvalidPageToken, match="start again without it"):
        cursor(request(experiment_id="exp_2", page_token=token))


def encoded(text: bytes) -> str:
    return base64.urlsafe_b64encode(text).decode().rstrip("=")


@pytest.mark.parametrize(
    "token", ["x", "!!", "é", encoded(b"[1"), encoded(b"{}"), encoded(b'["","b"]'), encoded(b"1" * 700)]
)
def test_what_is_no_token_is_refused(token):
    with pytest.raises(InvalidPageToken):
        cursor(request(page_token=token))
