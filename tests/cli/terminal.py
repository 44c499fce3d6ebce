"""A person at a real terminal: reads what a command asks, and types single keys."""

from __future__ import annotations

import os
import pty
import select
import subprocess
import sys
import termios
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

PROGRAM = [sys.executable, "-c", "import sys; from services.cli.main import main; sys.exit(main(sys.argv[1:]))"]
WAIT_S = 60.0


@dataclass
class Terminal:
    """A command whose stdin and stderr are a terminal; its answers, on stdout, go to a pipe.

    Keys wait until the command reads them one by one: what is typed before it asks, it throws away.
    """

    args: Sequence[str]
    shown: str = ""
    _read_to: int = 0
    _ours: int = field(init=False)
    _process: subprocess.Popen[bytes] = field(init=False)

    def __post_init__(self) -> None:
        self._ours, theirs = pty.openpty()
        self._process = subprocess.Popen(
            [*PROGRAM, *self.args],
            stdin=theirs,
            stdout=subprocess.PIPE,
            stderr=theirs,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "NO_COLOR": "1"},
            start_new_session=True,
        )
        os.close(theirs)

    def until(self, words: str) -> str:
        """Wait until the command has said these words and waits for a key; what it has said since the last time."""
        end = time.monotonic() + WAIT_S
        while words not in self.shown[self._read_to :] or self._is_read_by_lines():
            assert time.monotonic() < end, f"it never said {words!r}:\n{self.shown}"
            assert self._take(), f"it has ended, and never said {words!r}:\n{self.shown}"
        said, self._read_to = self.shown[self._read_to :], len(self.shown)
        return said

    def type(self, keys: str) -> None:
        """Press keys."""
        os.write(self._ours, keys.encode())

    def end(self) -> tuple[int, str, str]:
        """Wait for the end; the exit code, what was said since the last time, and the answers."""
        end = time.monotonic() + WAIT_S
        while self._take():
            assert time.monotonic() < end, f"it does not end:\n{self.shown}"
        assert self._process.stdout is not None
        out = self._process.stdout.read().decode()
        return self._process.wait(WAIT_S), self.shown[self._read_to :], out

    def close(self) -> None:
        """Leave nothing behind."""
        self._process.kill()
        self._process.communicate()
        os.close(self._ours)

    def _take(self) -> bool:
        """Read what has been said meanwhile; False where nobody is there any more."""
        if not select.select([self._ours], [], [], 0.02)[0]:
            return True
        try:
            data = os.read(self._ours, 4096)
        except OSError:  # EIO: the other end is closed
            return False
        self.shown += data.decode().replace("\r\n", "\n")
        return bool(data)

    def _is_read_by_lines(self) -> bool:
        return bool(termios.tcgetattr(self._ours)[3] & termios.ICANON)
