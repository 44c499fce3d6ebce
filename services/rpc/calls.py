"""One call at the edge: what it is, who asked, how it ended."""

from __future__ import annotations

import re
import uuid
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import grpc

Context: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"
"""What grpc hands every servicer method."""

REQUEST_ID_KEY = "x-request-id"
_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")


@dataclass
class Call:
    """A call while it runs. method: `/package.Service/Method`; code and reason: how it ended, for the log."""

    method: str
    context: Context
    request_id: str = field(init=False)
    code: str = "OK"
    reason: str = ""

    def __post_init__(self) -> None:
        given = dict(self.context.invocation_metadata() or ()).get(REQUEST_ID_KEY)
        # Foreign text goes into the log and back into metadata: only what is plainly an id is taken over.
        usable = isinstance(given, str) and _REQUEST_ID.fullmatch(given)
        self.request_id = str(given) if usable else uuid.uuid4().hex

    @property
    def request_type(self) -> str:
        """Name of the message that the method takes; by law it is the method's with `Request`."""
        return self.method.rpartition("/")[2] + "Request"
