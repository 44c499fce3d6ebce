"""Pages of a list: the same rules for every List and Query.

A page begins after the last key of the page before, never at an offset: what is added or removed meanwhile neither
repeats nor hides an entry. A page is also full at 2 MiB, since clients receive 4 MiB at most.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar, cast

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
class Cursor:
    """Where a page begins and how much to read for it: one more than it shows, to know whether there is another.

    after: the key of the last entry before it, None for the first page.
    """

    request: Message
    after: str | None
    page_size: int

    @property
    def limit(self) -> int:
        """How many records to read."""
        return self.page_size + 1

    def cut(self, records: Sequence[R], convert: Callable[[R], M], key: Callable[[R], str]) -> tuple[list[M], str]:
        """The page's messages, from at most `limit` records, and the token of the next page; empty on the last.

        key: what `after` is compared with, of a record, in the order of the list.
        """
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
        return messages, seal(self.request, key(records[len(messages) - 1]), without=_NOT_BOUND)


def cursor(request: ListRequest) -> Cursor:
    """Where the page that `request` asks for begins. Raises InvalidPageToken."""
    return Cursor(cast(Message, request), _after(request), min(request.page_size or DEFAULT_PAGE_SIZE, MAX_PAGE_SIZE))


def _after(request: ListRequest) -> str | None:
    if not request.page_token:
        return None
    try:
        after = unseal(cast(Message, request), request.page_token, without=_NOT_BOUND)
    except ValueError:
        after = None
    if not isinstance(after, str) or "\0" in after:
        raise InvalidPageToken("this list did not give page_token with these filters; start again without it")
    return after
