"""Ends what an earlier owner left behind: a server that outlived it, or a pid file that names a stranger.

To be called with the folder's lock held, so that whatever still runs there is an orphan. A server is known by its name
and its working directory, never by the number in its pid file: after a restart of the machine or the container that
number may belong to anyone, and Postgres itself would refuse to start beside it.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from pathlib import Path

import structlog

from control_plane.errors import EmbeddedUnavailable

log = structlog.get_logger()

PATIENCE_S = 20.0
POLL_S = 0.02


async def end_leftovers(cluster: Path) -> None:
    """Return when no server works in `cluster` and its pid file hinders no start."""
    pid_file = cluster / "postmaster.pid"
    running = _servers_in(cluster)
    if running:
        log.warning("orphan_postgres_found", pids=sorted(running), folder=str(cluster))
        await _end(cluster, running, _pid_in(pid_file))
    written = _pid_in(pid_file)
    if written is not None and _alive(written):
        log.warning("recycled_pid_found", pid=written, folder=str(cluster))
        pid_file.unlink(missing_ok=True)


async def _end(cluster: Path, running: set[int], postmaster: int | None) -> None:
    """Fast shutdown by its postmaster; the children of one that was killed notice, and are killed if they do not."""
    if postmaster in running:
        _send(postmaster, signal.SIGINT)
    if await _gone(cluster):
        return
    for pid in _servers_in(cluster):
        _send(pid, signal.SIGKILL)
    if not await _gone(cluster):
        pids = ", ".join(str(pid) for pid in sorted(_servers_in(cluster)))
        raise EmbeddedUnavailable(f"an earlier server still runs over {cluster} (process {pids}); end it and try again")


async def _gone(cluster: Path) -> bool:
    """Wait for every server of `cluster` to end; whether they did in time."""
    for _ in range(int(PATIENCE_S / POLL_S)):
        if not _servers_in(cluster):
            return True
        await asyncio.sleep(POLL_S)
    return False


def _servers_in(cluster: Path) -> set[int]:
    """Postgres processes whose working directory is `cluster`, as they all have. Empty where there is no /proc."""
    found = set()
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if (process / "comm").read_text().strip() == "postgres" and os.path.samefile(process / "cwd", cluster):
                found.add(int(process.name))
    return found


def _pid_in(pid_file: Path) -> int | None:
    """The first line of the pid file; None where there is none, or none that is a number."""
    with contextlib.suppress(OSError, ValueError, IndexError):
        return int(pid_file.read_text().splitlines()[0])
    return None


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _send(pid: int, order: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, order)
