"""Lists, read page by page into one response."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from google.protobuf.message import Message

PAGE = 100  # entries asked for at once; even runs with the longest prompts fit into a message

Response = TypeVar("Response", bound=Message)


def read_list(call: Callable[[Any], Response], request: Any, *, limit: int | None = None) -> Response:
    """All pages of a List or Query call as one response, at most `limit` entries; uses `request` up.

    Its next_page_token is empty where nothing is left.
    """
    whole: Response | None = None
    while True:
        got = 0 if whole is None else len(entries(whole))
        request.page_size = PAGE if limit is None else min(PAGE, limit - got)
        page = call(request)
        if whole is None:
            whole = page
        else:
            entries(whole).extend(entries(page))
            whole.next_page_token = page.next_page_token  # type: ignore[attr-defined]  # every list has it
        request.page_token = page.next_page_token  # type: ignore[attr-defined]  # every list has it
        if not request.page_token or (limit is not None and len(entries(whole)) >= limit):
            return whole


def entries(response: Message) -> Any:
    """The repeated field of a list's response."""
    return getattr(response, entries_field(response))


def entries_field(response: Message) -> str:
    """Which field of a list's response holds its entries: the only repeated one."""
    (field,) = (field for field in response.DESCRIPTOR.fields if field.is_repeated)
    return field.name
