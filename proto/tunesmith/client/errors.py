"""What a call may raise: one class, with the reason, the fields and the next step that the server named.

The server answers with `google.rpc.Status` and one ErrorInfo. An answer without ErrorInfo did not come from Tunesmith
but from the connection, and becomes `Unreachable` where the connection is to blame.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from tunesmith.errors import FieldProblem

if TYPE_CHECKING:
    import grpc

# Codes that a broken connection gives; gRPC also answers a bare CANCELLED when a server sheds load.
_CONNECTION_CODES = ("UNAVAILABLE", "CANCELLED", "INTERNAL", "UNKNOWN")


class ApiError(Exception):
    """A call failed. `reason` is a name of error_reason.proto, `code` that of the gRPC status."""

    def __init__(
        self,
        reason: str,
        code: str,
        message: str,
        *,
        fields: Sequence[FieldProblem] = (),
        metadata: Mapping[str, str] | None = None,
        retry_after_s: float | None = None,
        request_id: str = "",
    ) -> None:
        super().__init__(message)
        self.reason = reason
        self.code = code
        self.message = message
        self.fields = tuple(fields)
        self.metadata = dict(metadata or {})
        self.retry_after_s = retry_after_s
        self.request_id = request_id

    @property
    def retryable(self) -> bool:
        """Whether the same call may succeed in a moment."""
        return self.code == "UNAVAILABLE"


class Unreachable(ApiError):
    """No control plane answered at the address, or the connection to it broke."""

    def __init__(self, address: str, what: str) -> None:
        message = (
            f"no control plane answers at {address} ({what}); start one with `tunesmith up`, "
            f"or name another with --server or TUNESMITH_SERVER"
        )
        super().__init__("UNREACHABLE", "UNAVAILABLE", message, metadata={"address": address})


class AmbiguousId(ApiError):
    """A prefix fits more than one id; the message lists them."""

    def __init__(self, prefix: str, candidates: Sequence[str], more: bool) -> None:
        listed = ", ".join(candidates) + (", …" if more else "")
        message = f"{prefix} fits more than one: {listed}; type more of the id"
        super().__init__("AMBIGUOUS_ID", "INVALID_ARGUMENT", message, metadata={"prefix": prefix})


class DownloadCorrupt(ApiError):
    """What arrived does not have the digest that was announced, twice."""

    def __init__(self, name: str, digest: str) -> None:
        message = f"{name} arrived with another SHA-256 than {digest}, twice; look at the disk of the control plane"
        super().__init__("DOWNLOAD_CORRUPT", "DATA_LOSS", message, metadata={"digest": digest})


def from_rpc_error(error: grpc.RpcError, address: str) -> ApiError:
    """The ApiError of a failed gRPC call to `address`."""
    from google.rpc import error_details_pb2  # type: ignore[import-untyped,unused-ignore]  # comes without types
    from grpc_status import rpc_status  # type: ignore[import-untyped,unused-ignore]  # comes without types

    code = error.code().name
    text = error.details() or ""
    status = rpc_status.from_call(error)
    info, retry = error_details_pb2.ErrorInfo(), error_details_pb2.RetryInfo()
    bad, request = error_details_pb2.BadRequest(), error_details_pb2.RequestInfo()
    retry_after_s = None
    for detail in status.details if status else ():
        for kind in (info, bad, request, retry):
            detail.Unpack(kind)
        if detail.Is(error_details_pb2.RetryInfo.DESCRIPTOR):
            retry_after_s = retry.retry_delay.ToTimedelta().total_seconds()
    if not info.reason and code in _CONNECTION_CODES:
        return Unreachable(address, _connection_text(text))
    if not info.reason and code == "DEADLINE_EXCEEDED":
        text = f"no answer from {address} in time; wait longer (--timeout), or look whether it is overloaded"
    return ApiError(
        info.reason or code,
        code,
        text or f"the call ended with {code}",
        fields=[FieldProblem(field.field, field.description) for field in bad.field_violations],
        metadata=dict(info.metadata),
        retry_after_s=retry_after_s,
        request_id=request.request_id or info.metadata.get("request_id", ""),
    )


def _connection_text(details: str) -> str:
    """The part of gRPC's words that tells a person something."""
    lowered = details.lower()
    for sign, words in (
        ("connection refused", "connection refused"),
        ("dns", "the name is unknown"),
        ("ping timeout", "it has stopped answering"),
        ("keepalive", "it has stopped answering"),
        ("timeout", "no answer in time"),
        ("timed out", "no answer in time"),
        ("socket closed", "the connection was cut"),
        ("connection reset", "the connection was cut"),
        ("goaway", "it is going down"),
    ):
        if sign in lowered:
            return words
    return details[:200] or "the connection was cut"
