"""What makes a repeated Create the same Create: its method, the caller's request id and a digest of its body."""

from __future__ import annotations

import hashlib

from google.protobuf.message import Message

from control_plane.db.requests import Request


def request_of(message: Message) -> Request | None:
    """The identity of a Create or Resume request; None where the caller gave no request_id."""
    if not message.HasField("request_id"):
        return None
    body = type(message)()
    body.CopyFrom(message)
    body.ClearField("request_id")
    digest = hashlib.sha256(body.SerializeToString(deterministic=True)).hexdigest()
    request_id: str = getattr(message, "request_id")  # noqa: B009  Creates have it, Message does not say so
    return Request(method=message.DESCRIPTOR.name.removesuffix("Request"), request_id=request_id, body_digest=digest)
