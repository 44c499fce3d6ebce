"""Pages of a list: the same rules for every List and Query.

A page begins after the last key of the page before, never at an offset: what is added or removed meanwhile neither
repeats nor hides an entry. A page is also full at 2 MiB, since clients receive 4 MiB at most.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from google.protobuf.message import Message

from services.rpc.errors import InvalidPageToken
from services.rpc.tokens import seal, unseal

DEFAULT_PAGE_SIZE = 50
MAX_PAGE_SIZE = 1000
MAX_PAGE_BYTES = 2 * 1024 * 1024

_NOT_BOUND = ("page_size", "page_token")

R = TypeVar("R")
M = TypeVar("M", bound=Message)


class ListRequest(Protocol):
    """What every List request has; negative sizes are refused by the contract's rules."""

    page_size: int
    page_token: str


@dataclass(frozen=True)
class Cursor(Generic[R]):
    """Where a page begins and how much to read for it: one more than it shows, to know whether there is another.

    after: the key of the last entry before it, None for the first page.
    """

    request: Message
    after: str | None
    page_size: int
    key: Callable[[R], str]

    @property
    def limit(self) -> int:
        """How many records to read."""
        return self.page_size + 1

    def page(self, records: Sequence[R], convert: Callable[[R], M]) -> tuple[list[M], str]:
        """The page's messages, from at most `limit` records, and the token of the next page; empty on the last."""
        messages: list[M] = []
        size = 0
        for record in records[: self.page_size]:
            message = convert(record)
            size += message.ByteSize()
            if messages and size > MAX_PAGE_BYTES:
                break
            messages.append(message)
        if len(messages) == len(records):
            return messages, ""
        return messages, seal(self.request, self.key(records[len(messages) - 1]), without=_NOT_BOUND)


def cursor(request: Message, key: Callable[[R], str]) -> Cursor[R]:
    """Where the page that `request` (a ListRequest) asks for begins. key: of a record, as the list is ordered.

    Raises InvalidPageToken.
    """
    size: int = getattr(request, "page_size")  # noqa: B009  every List has it, Message does not say so
    token: str = getattr(request, "page_token")  # noqa: B009
    return Cursor(request, _after(request, token), min(size or DEFAULT_PAGE_SIZE, MAX_PAGE_SIZE), key)


def _after(request: Message, token: str) -> str | None:
    if not token:
        return None
    try:
        after = unseal(request, token, without=_NOT_BOUND)
    except ValueError:
        after = None
    if not isinstance(after, str) or "\0" in after:
        raise InvalidPageToken("this list did not give page_token with these filters; start again without it")
    return after
