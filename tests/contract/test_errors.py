"""The table from reasons to codes, and the classes that carry reasons."""

from __future__ import annotations

import importlib
import pkgutil

import grpc
import pytest

import control_plane
import services.rpc
from control_plane.db.failures import expected_failure
from services.rpc.errors import CODES, DETAILS_KEY, answer, expected
from tests.support.edge import details_of
from tunesmith.errors import FieldProblem, InvalidField, TunesmithError
from tunesmith.v1 import error_reason_pb2

REASONS = {name.removeprefix("ERROR_REASON_") for name in error_reason_pb2.ErrorReason.DESCRIPTOR.values_by_name} - {
    "UNSPECIFIED"
}


def error_classes() -> list[type[TunesmithError]]:
    for package in (control_plane, services.rpc):
        for module in pkgutil.walk_packages(package.__path__, package.__name__ + "."):
            if "migrations" not in module.name:
                importlib.import_module(module.name)
    importlib.import_module("trainer_node.errors")
    found: list[type[TunesmithError]] = []
    waiting = [TunesmithError]
    while waiting:
        # what the command line alone raises is never answered by a server, the exchange of models included
        apart = ("tests.", "services.cli.", "trainer_node.engines.musicgen.interop.")
        children = [cls for cls in waiting.pop().__subclasses__() if not cls.__module__.startswith(apart)]
        found += children
        waiting += children
    return found


def test_every_reason_of_the_contract_has_exactly_one_code():
    assert set(CODES) == REASONS


def test_the_code_of_a_reason_is_the_one_that_its_comment_announces():
    # ErrorReason's comments open with the code, unless the reason only tells how a training failed.
    announced = {}
    with open("proto/tunesmith/v1/error_reason.proto") as file:
        comment = ""
        for line in file:
            text = line.strip()
            if text.startswith("//"):
                comment = text.removeprefix("// ")
            elif text.startswith("ERROR_REASON_") and ":" in comment:
                announced[text.split(" ")[0].removeprefix("ERROR_REASON_")] = comment.split(":")[0]
    codes = {reason: code for reason, code in announced.items() if code in grpc.StatusCode.__members__}

    assert len(codes) > 30
    assert {reason: CODES[reason].name for reason in codes} == codes


def test_every_error_class_carries_a_reason_of_the_contract():
    strays = {cls.__qualname__: cls.reason for cls in error_classes() if cls.reason not in REASONS}

    assert strays == {}
    assert len(error_classes()) > 20


@pytest.mark.parametrize("reason", sorted(REASONS))
def test_every_reason_is_answered_with_one_error_info(reason):
    error = type("Sample", (TunesmithError,), {"reason": reason})("what happened; what to do", run_id="run_1")

    reply = answer(error, request_id="req-1")

    details = details_of(reply.details)
    assert details.info.reason == reason and details.info.domain == "tunesmith.v1"
    assert dict(details.info.metadata) == {"run_id": "run_1", "request_id": "req-1"}
    assert (details.retry_s is not None) == (reason == "UNAVAILABLE")


def test_an_answer_fits_into_the_metadata_that_every_client_accepts():
    problems = [FieldProblem("x" * 500, "y" * 5000) for _ in range(50)]
    error = InvalidField("z" * 100_000, fields=problems, **{f"key{number}": "v" * 10_000 for number in range(100)})

    reply = answer(error, request_id="req-1")

    assert len(reply.details) + len(reply.message) + len(DETAILS_KEY) < 11_000


def test_anything_unforeseen_is_internal_and_keeps_its_text_to_itself():
    failure = expected(LookupError("secret"), request_id="req-1", translate=expected_failure)

    assert failure.reason == "INTERNAL"
    assert "secret" not in failure.message and "req-1" in failure.message


def test_a_text_that_is_no_unicode_is_still_answered():
    error = InvalidField("no file \udcff; check the path", fields=[FieldProblem("\udcff", "\udcff")], path="\udcff")

    reply = answer(error, request_id="req-1")

    assert reply.message == "no file ?; check the path"
    assert details_of(reply.details).fields == {"?": "?"}
