"""What can go wrong, as types: the class is the reason, the data is in fields, the message ends in the next step.

Both planes raise these; the edge turns them into a `google.rpc.Status`, where the gRPC code of each reason is chosen
once. Every reason stands in error_reason.proto.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar


@dataclass(frozen=True)
class FieldProblem:
    """A field that breaks its rule. path: such as `spec.supervised.training.epochs`; what: value, range, next step."""

    path: str
    what: str

    def __str__(self) -> str:
        return f"{self.path}: {self.what}"


class TunesmithError(Exception):
    """An expected failure. Subclasses name the reason; keyword arguments become the error's metadata."""

    reason: ClassVar[str] = "INTERNAL"

    def __init__(self, message: str, *, fields: Sequence[FieldProblem] = (), **metadata: object) -> None:
        super().__init__(message)
        self.message = message
        self.fields = tuple(fields)
        self.metadata = {key: str(value) for key, value in metadata.items()}


class InvalidField(TunesmithError):
    """One or more fields break their rules; `fields` names each."""

    reason = "INVALID_FIELD"

    @classmethod
    def of(cls, fields: Sequence[FieldProblem]) -> InvalidField:
        """The error for these fields; the message holds the first few."""
        shown = "; ".join(str(field) for field in fields[:3])
        more = f"; and {len(fields) - 3} more" if len(fields) > 3 else ""
        return cls(shown + more, fields=fields)
