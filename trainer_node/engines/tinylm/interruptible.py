"""Work that takes long inside of C++, with this thread left to hear Ctrl-C and a request to stop."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TypeVar

from trainer_node.stop_signal import Stopped, never
from trainer_node.training import StopRequested

_POLL_S = 0.1

T = TypeVar("T")


def nothing() -> None:
    """Nobody waits for it."""


def attentively(work: Callable[[], T], *, stop: StopRequested = never, meanwhile: Callable[[], None] = nothing) -> T:
    """Do what takes long, or long inside of C++, in a thread of its own: this one hears signals meanwhile.

    meanwhile: called now and then in this thread.

    What `work` writes must be whole or absent: where this thread is interrupted, or raises Stopped, the process is
    about to end without taking down its interpreter, which would abort in C++.
    """
    done: list[T] = []
    failed: list[BaseException] = []

    def run() -> None:
        try:
            done.append(work())
        except BaseException as error:
            failed.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    while thread.is_alive():
        thread.join(_POLL_S)
        if stop():
            raise Stopped
        meanwhile()
    if failed:
        raise failed[0]
    return done[0]
