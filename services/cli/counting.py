"""One line on a terminal's stderr that counts what is worked on; silence elsewhere."""

from __future__ import annotations

import sys

from services.cli.terminal import is_interactive


class Counting:
    """`uploading clip 3 of 24`. verb: what is done; noun: with what."""

    def __init__(self, verb: str, noun: str) -> None:
        self._said = f"{verb} {noun}"
        self._stream = sys.stderr if is_interactive(sys.stderr) else None

    def __call__(self, done: int, total: int) -> None:
        """Number `done` of `total` is worked on; the last ends the line."""
        if self._stream:
            end = "\n" if done >= total else ""
            print(f"\r{self._said} {done} of {total} ", end=end, file=self._stream, flush=True)
