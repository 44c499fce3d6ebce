"""A whole installation, as `tunesmith up` starts it, and the clients that are not ours."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import time
import wave
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import grpc
import numpy as np
import pytest

from tests.rules.sources import ROOT
from tunesmith.v1 import node_pb2, node_pb2_grpc

NODE_MODULES = ROOT / "build" / "node" / "node_modules"


@dataclass(frozen=True)
class Installation:
    """A running installation. control_plane, node: host:port; log: what it wrote."""

    control_plane: str
    node: str
    log: Path


@pytest.fixture(scope="session")
def installation(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    """Embedded Postgres, control plane and one node in a process of their own, with the base model `tiny`."""
    from trainer_node.engines.musicgen.tiny import make_tiny

    data = tmp_path_factory.mktemp("installation")
    make_tiny(data / "models" / "tiny")
    program = [sys.executable, "-m", "services.cli.main", "up", "--until-stdin-closes", "--data-dir", str(data)]
    program += ["--listen", "127.0.0.1:0", "--node-listen", "127.0.0.1:0", "--device", "cpu"]
    with (data / "log").open("w") as log:
        started = subprocess.Popen(
            program, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True
        )
        try:
            address = bound_address(started, data / "log")
            yield Installation(address, node_address(address), data / "log")
        finally:
            assert started.stdin
            started.stdin.close()
            started.wait(60)


def bound_address(started: subprocess.Popen[str], log: Path) -> str:
    """Where the control plane listens, as the program says on stdout when it is ready."""
    assert started.stdout
    for line in started.stdout:
        if found := re.search(r"event=ready address=(\S+)", line):
            return found.group(1)
    raise AssertionError(f"it ended before it was ready:\n{log.read_text()[-4000:]}")


def node_address(control_plane: str) -> str:
    """Where the node listens, as the control plane knows it once the node has registered."""
    deadline = time.monotonic() + 30
    with grpc.insecure_channel(control_plane) as channel:
        while time.monotonic() < deadline:
            answer = node_pb2_grpc.NodeServiceStub(channel).ListNodes(node_pb2.ListNodesRequest(), timeout=30)
            if answer.nodes:
                return answer.nodes[0].address
            time.sleep(0.1)  # registering is the node's own doing; nothing tells us of it
    raise AssertionError("no node has registered within 30 s")


def tool(path: str | Path | None, what: str) -> str:
    """A tool's path. Without it a test is skipped on a developer's machine, and fails where CI is set."""
    if path and Path(path).exists():
        return str(path)
    missing = f"{what} is missing; install Node.js with npm, then run `make proto`"
    if os.environ.get("CI"):
        pytest.fail(missing)
    pytest.skip(missing)


@pytest.fixture(scope="session")
def buf() -> str:
    """The buf program."""
    return tool(NODE_MODULES / ".bin" / "buf", "buf")


@pytest.fixture(scope="session")
def node_js() -> tuple[str, dict[str, str]]:
    """Node's program, and the environment in which it finds @grpc/grpc-js."""
    tool(NODE_MODULES / "@grpc" / "grpc-js", "@grpc/grpc-js")
    return tool(shutil.which("node"), "Node.js"), {**os.environ, "NODE_PATH": str(NODE_MODULES)}


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    """Two seconds of a falling tone, as a WAV file."""
    return write_tone(tmp_path / "clip.wav", hz=440)


@pytest.fixture
def other_clip(tmp_path: Path) -> Path:
    """The same an octave higher."""
    return write_tone(tmp_path / "other.wav", hz=880)


@pytest.fixture
def words(tmp_path: Path) -> Path:
    """About 20 kB of generated English, a paragraph a line."""
    from trainer_node.engines.tinylm.synthetic import write_synthetic

    write_synthetic(tmp_path / "synthetic", size_bytes=40_000)
    return tmp_path / "synthetic" / "en.txt"


def write_tone(path: Path, *, hz: float) -> Path:
    """Two seconds of a tone that falls from there."""
    rate = 16_000
    seconds = np.arange(2 * rate) / rate
    tone = 0.4 * np.sin(2 * np.pi * (hz - 60 * seconds) * seconds) * np.exp(-seconds)
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes((tone * 32767).astype("<i2").tobytes())
    return path
