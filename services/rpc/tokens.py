"""Opaque tokens: where a reader stands, bound to what it reads.

A token is no secret and gives no right; it only must not be used where it was not given. So it carries a digest of its
position and of the request it belongs to, and a request that differs refuses it.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json

from google.protobuf.message import Message

_DIGEST_CHARACTERS = 16


def seal(request: Message, position: object, *, without: tuple[str, ...]) -> str:
    """A token for `position` (any JSON value), bound to `request` with the fields `without` left out."""
    text = json.dumps([_digest(request, position, without), position], separators=(",", ":"))
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


def unseal(request: Message, token: str, *, without: tuple[str, ...]) -> object:
    """The position that `seal` was given. Raises ValueError where the token belongs to another request, or is none."""
    try:
        digest, position = json.loads(base64.b64decode(token + "=" * (-len(token) % 4), altchars=b"-_", validate=True))
    except (binascii.Error, UnicodeError, TypeError, ValueError, RecursionError) as error:
        raise ValueError("not a token") from error
    if digest != _digest(request, position, without):
        raise ValueError("a token of another request")
    return position


def _digest(request: Message, position: object, without: tuple[str, ...]) -> str:
    bound = type(request)()
    bound.CopyFrom(request)
    for field in without:
        bound.ClearField(field)
    text = json.dumps([request.DESCRIPTOR.full_name, position]).encode()
    return hashlib.sha256(text + bound.SerializeToString(deterministic=True)).hexdigest()[:_DIGEST_CHARACTERS]
