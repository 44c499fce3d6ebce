"""A reader that leaves: `tunesmith lm train | head -2` has read two lines, and a training is more than its lines."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any, TextIO, cast


class _WhileRead:
    """A stream whose reader may go: what is written from then on goes nowhere. gone: called once, when it is found."""

    def __init__(self, stream: TextIO, gone: Callable[[], None]) -> None:
        self._stream, self._gone = stream, gone

    def write(self, text: str) -> int:
        """As the stream's own."""
        try:
            return self._stream.write(text)
        except BrokenPipeError:
            self._leave()
            return len(text)

    def flush(self) -> None:
        """As the stream's own."""
        try:
            self._stream.flush()
        except BrokenPipeError:
            self._leave()

    def _leave(self) -> None:
        """From now on it leads nowhere, what is still in its buffer included: Python flushes that once more at exit."""
        os.dup2(os.open(os.devnull, os.O_WRONLY), self._stream.fileno())
        self._gone()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def while_read(stream: TextIO, gone: Callable[[], None]) -> TextIO:
    """The stream, written to as long as somebody reads it. gone: told once that nobody does."""
    return cast(TextIO, _WhileRead(stream, gone))
