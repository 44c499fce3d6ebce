"""Processes by pid and start time: told apart from a stranger that got the same pid, watched, killed as a group.

A training process outlives the service that started it. A service that comes back is not its parent: it can neither
wait for it nor learn its exit code, but it can see it end (a pidfd becomes readable) and kill its group.
"""

from __future__ import annotations

import asyncio
import os
import signal
from dataclasses import dataclass
from pathlib import Path

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


@dataclass(frozen=True, kw_only=True)
class ChildProcess:
    """A training process, leader of its own session and group.

    started: boot id and start time in clock ticks; with the pid it names one process for ever.
    oom_file, oom_kills: the counter of its memory cgroup and what it said when the process began; empty, 0 if unknown.
    """

    pid: int
    started: str
    oom_file: str = ""
    oom_kills: int = 0

    @property
    def lives(self) -> bool:
        """Whether that very process runs; a zombie does not."""
        found = _stat(self.pid)
        return found is not None and found.state not in "ZX" and found.started == self.started

    def terminate(self) -> None:
        """Ask the process to stop (SIGTERM); nothing if it has ended."""
        self._signal(signal.SIGTERM)

    def kill_group(self) -> None:
        """End the process and everything of its group that still runs (SIGKILL).

        The group may outlive its leader. Its number is not given away meanwhile, so if the pid belongs to a process
        with another start time, then the whole group is gone and nobody is killed.
        """
        found = _stat(self.pid)
        if found is not None and found.started != self.started:
            return
        try:
            os.killpg(self.pid, signal.SIGKILL)
        except ProcessLookupError:
            return

    async def ended(self) -> None:
        """Wait until the process has ended, reaped or not."""
        try:
            handle = os.pidfd_open(self.pid)
        except OSError:  # no such process, or a kernel without pidfd
            while self.lives:  # noqa: ASYNC110 - nobody signals it
                await asyncio.sleep(0.1)
            return
        loop, done = asyncio.get_running_loop(), asyncio.Event()
        try:
            if self.lives:  # asked after the handle was opened: now it cannot be another process's
                loop.add_reader(handle, done.set)
                await done.wait()
        finally:
            loop.remove_reader(handle)
            os.close(handle)

    def _signal(self, number: signal.Signals) -> None:
        if self.lives:
            try:
                os.kill(self.pid, number)
            except ProcessLookupError:
                return


def start_mark(pid: int) -> str:
    """When a process was started, as ChildProcess.started; empty if there is none."""
    found = _stat(pid)
    return found.started if found else ""


@dataclass(frozen=True)
class _Stat:
    state: str
    started: str


def _stat(pid: int) -> _Stat | None:
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return None
    fields = text.rpartition(")")[2].split()  # the name before may hold spaces and brackets
    return _Stat(state=fields[0], started=f"{_BOOT_ID.read_text().strip()}/{fields[19]}")
