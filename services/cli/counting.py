"""One line on a terminal's stderr that counts what is worked on; silence elsewhere."""

from __future__ import annotations

import sys

from services.cli.terminal import is_interactive


class Counting:
    """`uploading clip 3 of 24`. verb: what is done; noun: with what."""

    def __init__(self, verb: str, noun: str) -> None:
        self._said = f"{verb} {noun}"
        self._stream = sys.stderr if is_interactive(sys.stderr) else None
        self._is_open = False

    def __call__(self, done: int, total: int) -> None:
        """Number `done` of `total` is worked on; the last ends the line."""
        if self._stream:
            self._is_open = done < total
            end = "" if self._is_open else "\n"
            print(f"\r{self._said} {done} of {total} ", end=end, file=self._stream, flush=True)

    def close(self) -> None:
        """End the line where the last was not reached, so that what is told next begins one."""
        if self._stream and self._is_open:
            print(file=self._stream, flush=True)
