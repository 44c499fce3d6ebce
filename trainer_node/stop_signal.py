"""A stop as a wish that training asks for after every step, not as an end in the middle of one.

SIGTERM for the child process of a node, Ctrl-C for a training in the foreground.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType


class Stopped(BaseException):
    """The job was asked to stop before there was anything worth a checkpoint. No Exception: no library may eat it."""


def never() -> bool:
    """What asks for a stop where nobody can."""
    return False


class StopSignal:
    """Whether a stop was asked for. Calling it tells; a second signal changes nothing."""

    def __init__(self) -> None:
        self._asked = self._interrupting = False

    def __call__(self) -> bool:
        return self._asked

    def install(self) -> None:
        """From now on SIGTERM is a wish; SIGINT, which a terminal sends to whole groups, is nothing."""
        signal.signal(signal.SIGTERM, self._on_signal)
        signal.signal(signal.SIGINT, signal.SIG_IGN)

    @contextmanager
    def interrupting(self) -> Iterator[None]:
        """While inside, a stop (one asked for before included) raises Stopped: importing PyTorch takes seconds."""
        self._interrupting = True
        try:
            if self._asked:
                raise Stopped
            yield
        finally:
            self._interrupting = False

    def _on_signal(self, _number: int, _frame: FrameType | None) -> None:
        self._asked = True
        if self._interrupting:
            self._interrupting = False
            raise Stopped


@contextmanager
def ctrl_c(on_first: Callable[[], None]) -> Iterator[Callable[[], bool]]:
    """Gives the question whether Ctrl-C was pressed. The first press calls `on_first`, the second interrupts at once.

    on_first: called in a thread of its own. The signal may come in the middle of a line that the main thread writes
    under a lock, and a second line begun there would wait for the first one for ever. SIGTERM counts as the first
    press. To be used in the main thread.
    """
    asked = False
    first = threading.Thread(target=on_first, name="ctrl-c", daemon=True)

    def on_signal(number: int, _frame: FrameType | None) -> None:
        nonlocal asked
        if asked and number == signal.SIGINT:
            raise KeyboardInterrupt
        if not asked:
            asked = True
            first.start()

    before = {number: signal.signal(number, on_signal) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield lambda: asked
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        if asked:
            first.join()
