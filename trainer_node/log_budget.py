"""How much of what a training prints is kept: a burst at once, then a trickle, so that no print in a loop fills a
database or holds up the metrics behind it. What is left out stays in the job's folder."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

BURST_BYTES = 8 << 20  # some 80,000 lines at once, of each stream
RATE_BYTES_S = 4 << 10  # and 40 lines a second for ever: at most 350 MB a day
LINE_BYTES = 64  # what a line costs beside its text, so that empty ones are not for nothing
REOPEN_BYTES = 16 << 10  # once used up, so much comes together before lines are kept again: few gaps, not many


class LogBudget:
    """A token bucket that may go into debt by one batch. clock: seconds, monotonic."""

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._left: float = BURST_BYTES
        self._at = clock()
        self._used_up = False

    def allows(self) -> bool:
        """Whether lines are kept now."""
        now = self._clock()
        self._left = min(BURST_BYTES, self._left + (now - self._at) * RATE_BYTES_S)
        self._at = now
        self._used_up = self._left < (REOPEN_BYTES if self._used_up else 1)
        return not self._used_up

    def spend(self, lines: Sequence[str]) -> None:
        """Count lines that were kept."""
        self._left -= sum(len(line) + LINE_BYTES for line in lines)


def left_out(size_bytes: int, line_count: int) -> str:
    """The line that stands where others were left out."""
    kept = f"of each stream {BURST_BYTES >> 20} MiB at once and {RATE_BYTES_S >> 10} KiB a second are kept"
    return f"[{line_count:,} lines, {size_bytes:,} bytes, are left out here: {kept}]"
