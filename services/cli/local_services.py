"""Everything that `tunesmith up` runs, as a child of this process for as long as it is needed."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from queue import Empty, Queue
from typing import IO

from services.cli.output import quoted
from tunesmith.errors import TunesmithError

START_S = 60.0  # a first start unpacks and initialises Postgres; on a slow disk that takes long
STOP_S = 20.0


class ServicesDidNotStart(TunesmithError):
    """The services ended, or said nothing, before they were ready."""

    reason = "CANNOT_START"


@contextmanager
def local_services(data_dir: Path, log: Path) -> Iterator[str]:
    """Run the services on free ports while inside; gives the control plane's address. Their log goes to `log`.

    They end with this process, whichever way it ends: they stop when the pipe to their stdin closes.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "services.cli.main", "up", "--data-dir", str(data_dir), "--until-stdin-closes"]
    command += ["--listen", "127.0.0.1:0", "--node-listen", "127.0.0.1:0", "--color", "never"]
    with log.open("ab") as errors:
        # A session of its own: Ctrl-C on the terminal is ours alone, so that what we stop is stopped in order.
        child = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, start_new_session=True, text=True
        )
    try:
        yield _address(child, log)
    finally:
        assert child.stdin is not None, "opened above"
        child.stdin.close()
        try:
            child.wait(STOP_S)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()


def _address(child: subprocess.Popen[str], log: Path) -> str:
    """The address in the line that says `event=ready`."""
    lines: Queue[str] = Queue()
    assert child.stdout is not None, "opened by local_services"
    threading.Thread(target=_read, args=(child.stdout, lines), name="up", daemon=True).start()
    try:
        while line := lines.get(timeout=START_S):
            if line.startswith("event=ready "):
                return line.rpartition("address=")[2].strip()
    except Empty:
        raise ServicesDidNotStart(f"the services were not ready within {START_S:.0f} s; see {log}") from None
    last = [line for line in log.read_text(errors="replace").splitlines() if line.strip()][-3:]
    raise ServicesDidNotStart("the services did not start:\n" + "\n".join(last) + f"\nsee {quoted(str(log))}")


def _read(stream: IO[str], lines: Queue[str]) -> None:
    for line in stream:
        lines.put(line)
    lines.put("")
