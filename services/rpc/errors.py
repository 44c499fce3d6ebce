"""Failures on the wire: one table from reason to gRPC code, one shape of answer.

Every failed call carries a google.rpc.Status with exactly one ErrorInfo. Details travel in trailing metadata, of which
clients accept 8 KiB before they drop calls at random: the answer is cut to fit, and says that it was.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta

import grpc
import structlog
from google.protobuf import any_pb2, duration_pb2
from google.protobuf.message import Message
from google.rpc import error_details_pb2, status_pb2

from tunesmith.errors import TunesmithError

DOMAIN = "tunesmith.v1"
DETAILS_KEY = "grpc-status-details-bin"
RETRY_AFTER = timedelta(seconds=1)  # long enough for a restart on the spot, short enough for a person

_MESSAGE_CHARACTERS = 1000
_FIELDS_BYTES = 3500
_METADATA_CHARACTERS = 500

_Code = grpc.StatusCode

CODES: dict[str, grpc.StatusCode] = {
    "INVALID_FIELD": _Code.INVALID_ARGUMENT,
    "MALFORMED_REQUEST": _Code.INVALID_ARGUMENT,
    "INVALID_PAGE_TOKEN": _Code.INVALID_ARGUMENT,
    "INVALID_RESUME_TOKEN": _Code.INVALID_ARGUMENT,
    "INVALID_UPDATE_MASK": _Code.INVALID_ARGUMENT,
    "REQUEST_ID_REUSED": _Code.INVALID_ARGUMENT,
    "SAMPLE_INVALID": _Code.INVALID_ARGUMENT,
    "COMPARISON_INVALID": _Code.INVALID_ARGUMENT,
    "BLOB_CORRUPT": _Code.INVALID_ARGUMENT,
    "UPLOAD_OFFSET": _Code.INVALID_ARGUMENT,
    "EXPERIMENT_NOT_FOUND": _Code.NOT_FOUND,
    "DATASET_NOT_FOUND": _Code.NOT_FOUND,
    "DATASET_VERSION_NOT_FOUND": _Code.NOT_FOUND,
    "RUN_NOT_FOUND": _Code.NOT_FOUND,
    "ADAPTER_NOT_FOUND": _Code.NOT_FOUND,
    "MODEL_NOT_FOUND": _Code.NOT_FOUND,
    "NODE_NOT_FOUND": _Code.NOT_FOUND,
    "JOB_NOT_FOUND": _Code.NOT_FOUND,
    "BLOB_NOT_FOUND": _Code.NOT_FOUND,
    "NAME_TAKEN": _Code.ALREADY_EXISTS,
    "ETAG_MISMATCH": _Code.ABORTED,
    "CHECKPOINT_NOT_FOUND": _Code.FAILED_PRECONDITION,
    "RUN_FINISHED": _Code.FAILED_PRECONDITION,
    "RUN_NOT_RESUMABLE": _Code.FAILED_PRECONDITION,
    "REPORT_NOT_READY": _Code.FAILED_PRECONDITION,
    "DATASET_VERSION_IN_USE": _Code.FAILED_PRECONDITION,
    "DATASET_EMPTY": _Code.FAILED_PRECONDITION,
    "DATASET_VERSION_UNSUITABLE": _Code.FAILED_PRECONDITION,
    "START_ADAPTER_UNSUITABLE": _Code.FAILED_PRECONDITION,
    "TRAINING_KIND_UNAVAILABLE": _Code.FAILED_PRECONDITION,
    "LEASE_LOST": _Code.FAILED_PRECONDITION,
    "NODE_FULL": _Code.RESOURCE_EXHAUSTED,
    "DISK_FULL": _Code.RESOURCE_EXHAUSTED,
    "REQUEST_TOO_LARGE": _Code.RESOURCE_EXHAUSTED,
    "OFFSET_OUT_OF_RANGE": _Code.OUT_OF_RANGE,
    "UNAVAILABLE": _Code.UNAVAILABLE,
    "DEADLINE_EXCEEDED": _Code.DEADLINE_EXCEEDED,
    "UNIMPLEMENTED": _Code.UNIMPLEMENTED,
    "INTERNAL": _Code.INTERNAL,
    # How a training ended: these stand in RunFailure, and here for a node that answers StartJob with one of them.
    "BASE_MODEL_UNAVAILABLE": _Code.FAILED_PRECONDITION,
    "OUT_OF_MEMORY": _Code.RESOURCE_EXHAUSTED,
    "DATA_INVALID": _Code.FAILED_PRECONDITION,
    "LOSS_NOT_FINITE": _Code.FAILED_PRECONDITION,
    "PROCESS_DIED": _Code.ABORTED,
    "TRAINING_CRASHED": _Code.ABORTED,
    "CHECKPOINT_CORRUPT": _Code.DATA_LOSS,
    "INPUTS_UNAVAILABLE": _Code.FAILED_PRECONDITION,
    "NODE_LOST": _Code.ABORTED,
}

Translate = Callable[[Exception], TunesmithError | None]
"""Names the expected failure behind an exception of a library, or None where there is none."""

log = structlog.get_logger()


class MalformedRequest(TunesmithError):
    """The bytes of a request are not the message that its method takes."""

    reason = "MALFORMED_REQUEST"


class RequestTooLarge(TunesmithError):
    """A request message is above the limit that GetServerInfo tells."""

    reason = "REQUEST_TOO_LARGE"


class InvalidPageToken(TunesmithError):
    """A page token was not given by this list with these filters."""

    reason = "INVALID_PAGE_TOKEN"


class InvalidUpdateMask(TunesmithError):
    """An update mask is empty or names a field that cannot be changed."""

    reason = "INVALID_UPDATE_MASK"


class DeadlineExceeded(TunesmithError):
    """A call took longer than its caller or the server allows."""

    reason = "DEADLINE_EXCEEDED"


class GoingDown(TunesmithError):
    """The server is going down; what was asked can be asked again of its successor."""

    reason = "UNAVAILABLE"


class UnknownMethod(TunesmithError):
    """The method does not exist in this version."""

    reason = "UNIMPLEMENTED"


class InternalError(TunesmithError):
    """A bug. What happened stands in the log beside the request id, and nowhere else."""

    reason = "INTERNAL"


@dataclass(frozen=True)
class Answer:
    """A failure as gRPC sends it; details: a serialised google.rpc.Status."""

    code: grpc.StatusCode
    message: str
    details: bytes


def expected(error: Exception, *, request_id: str, translate: Translate) -> TunesmithError:
    """The failure that a caller may see. Anything unforeseen becomes INTERNAL, and its traceback a line of the log."""
    failure = error if isinstance(error, TunesmithError) else translate(error)
    if failure is not None and failure.reason in CODES and failure.reason != "INTERNAL":
        return failure
    log.error("rpc_crashed", exc_info=error)
    return InternalError(f"unexpected error; report it with request id {request_id} and the server's log")


def answer(error: TunesmithError, *, request_id: str) -> Answer:
    """`error` as a status with ErrorInfo, BadRequest where fields are named and RetryInfo with UNAVAILABLE."""
    code = CODES[error.reason]
    message = _cut(error.message, _MESSAGE_CHARACTERS)
    info = error_details_pb2.ErrorInfo(reason=error.reason, domain=DOMAIN, metadata=_metadata(error, request_id))
    details: list[Message] = [info]
    if error.fields:
        details.append(_bad_request(error, info))
    if code is _Code.UNAVAILABLE:
        delay = duration_pb2.Duration()
        delay.FromTimedelta(RETRY_AFTER)
        details.append(error_details_pb2.RetryInfo(retry_delay=delay))
    status = status_pb2.Status(code=code.value[0], message=message, details=[_pack(detail) for detail in details])
    return Answer(code, message, status.SerializeToString())


def _metadata(error: TunesmithError, request_id: str) -> dict[str, str]:
    shown = {key: _cut(value, _METADATA_CHARACTERS) for key, value in list(error.metadata.items())[:8]}
    return shown | {"request_id": request_id}


def _bad_request(error: TunesmithError, info: error_details_pb2.ErrorInfo) -> error_details_pb2.BadRequest:
    """As many fields as fit; the ErrorInfo tells how many there were."""
    bad = error_details_pb2.BadRequest()
    for field in error.fields:
        if bad.ByteSize() + len(field.path) + len(field.what) > _FIELDS_BYTES and bad.field_violations:
            info.metadata["field_count"] = str(len(error.fields))
            break
        bad.field_violations.add(field=_cut(field.path, 200), description=_cut(field.what, 400))
    return bad


def _pack(message: Message) -> any_pb2.Any:
    packed = any_pb2.Any()
    packed.Pack(message)
    return packed


def _cut(text: str, characters: int) -> str:
    """`text` as a protobuf string can hold it, no longer than `characters`."""
    text = text.encode("utf-8", "replace").decode()  # a file name may bring lone surrogates
    return text if len(text) <= characters else text[: characters - 1] + "…"
