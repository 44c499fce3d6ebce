"""The terminals of a reader: what is typed runs in bash, and what one block assigns is there for the next.

A command that serves (`tunesmith up`) runs until the page is through, as in a second terminal, on ports of its own.
"""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import psutil

COMMAND_S = 300.0  # a training takes some 8 s, and much longer beside others
START_S = 120.0
SERVING = re.compile(r"tunesmith (up|node|control-plane)\b(?! list)[^\n]*\n?")
READY = "event=ready "  # begins the line in which a program says that it serves
# What bash changes by itself.
_OF_BASH = {"_", "SHLVL", "OLDPWD"}


class BlockFailed(AssertionError):
    """A block did not do what the page says."""


@dataclass
class Terminal:
    """A place to type commands, beginning in `folder`."""

    folder: Path
    environment: dict[str, str] = field(init=False)
    serving: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def __post_init__(self) -> None:
        port, node_port = _free_ports(2)
        own = {name: value for name, value in os.environ.items() if not name.startswith("TUNESMITH_")}
        self.environment = own | {
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{own['PATH']}",
            "PWD": str(self.folder),
            "HF_HUB_OFFLINE": "1",
            "NO_COLOR": "1",
            "COLUMNS": "120",
            "PYTHONUNBUFFERED": "1",  # answers and notes in the order in which a terminal shows them
            "TUNESMITH_SERVER": f"127.0.0.1:{port}",
            "TUNESMITH_LOCAL_LISTEN": f"127.0.0.1:{port}",
            "TUNESMITH_LOCAL_NODE_LISTEN": f"127.0.0.1:{node_port}",
        }

    def type(self, script: str, *, status: int = 0) -> tuple[int, str]:
        """Run a script; its exit code and what it printed, stdout and stderr as they came.

        status: the exit code of what was typed before, which is `$?`. Raises BlockFailed if it takes too long.
        """
        left = self.folder / ".environment"
        whole = f"set -a\n(exit {status})\n{script}\ncode=$?\nenv -0 > {left}\nexit $code"
        try:
            done = subprocess.run(
                ["bash", "-uo", "pipefail", "-c", whole],
                cwd=self.environment["PWD"],
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                timeout=COMMAND_S,
            )
        except subprocess.TimeoutExpired as error:
            raise BlockFailed(f"not done within {COMMAND_S:.0f} s:\n{script}\n{error.stdout or ''}") from None
        if left.exists():
            pairs = (pair.split("=", 1) for pair in left.read_text().split("\0") if pair)
            self.environment = {name: value for name, value in pairs if name not in _OF_BASH | {"code"}}
            left.unlink()
        return done.returncode, done.stdout.decode()

    def serve(self, command: str) -> str:
        """Start a command that serves, and wait until it is ready; what it has printed until then."""
        log = self.folder / f".serving-{len(self.serving)}.log"
        with log.open("wb") as output:
            program = subprocess.Popen(
                ["bash", "-c", f"exec {command}"],
                cwd=self.environment["PWD"],
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        self.serving.append(program)
        end = time.monotonic() + START_S
        while time.monotonic() < end:
            said = log.read_text()
            if any(line.startswith(READY) for line in said.splitlines()):
                return said
            if program.poll() is not None:
                raise BlockFailed(f"`{command}` ended with {program.returncode}:\n{said}")
            time.sleep(0.05)
        raise BlockFailed(f"`{command}` was not ready within {START_S:.0f} s:\n{log.read_text()}")

    def close(self) -> None:
        """Nothing that was started here is left running: trainings outlive the service that started them."""
        for program in self.serving:
            program.send_signal(signal.SIGINT)
        for program in self.serving:
            with suppress(subprocess.TimeoutExpired):
                program.wait(15)
            program.kill()
        for process in psutil.process_iter(["cmdline"]):
            if any(str(self.folder) in word for word in process.info["cmdline"] or []):
                with suppress(psutil.NoSuchProcess):
                    process.kill()


def _free_ports(count: int) -> list[int]:
    listeners = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [listener.getsockname()[1] for listener in listeners]
    for listener in listeners:
        listener.close()
    return ports
