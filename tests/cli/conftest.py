"""Fixtures of the command line's tests: a fake control plane, and commands run in this process."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from services.cli.main import main
from tests.cli.plane import FakePlane
from tunesmith.client import watch
from tunesmith.client.client import Client


@dataclass(frozen=True)
class Result:
    """What a command left behind."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """Stdout as one JSON document."""
        return json.loads(self.out)

    @property
    def json_lines(self) -> list[Any]:
        """Stdout as JSON lines."""
        return [json.loads(line) for line in self.out.splitlines()]


Run = Callable[..., Result]


@pytest.fixture
def plane(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakePlane]:
    """A fake control plane, which commands find by TUNESMITH_SERVER."""
    plane = FakePlane()
    monkeypatch.setenv("TUNESMITH_SERVER", plane.address)
    monkeypatch.setattr(watch, "FIRST_DELAY_S", 0.01)
    yield plane
    plane.stop()


@pytest.fixture
def client(plane: FakePlane) -> Iterator[Client]:
    """A client of the fake."""
    with Client(plane.address) as client:
        yield client


@pytest.fixture
def cli(capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs a command line in this process, with stdout and stderr that are no terminals."""

    def run(*args: str) -> Result:
        capsys.readouterr()
        code = main(args)
        captured = capsys.readouterr()
        return Result(int(code), captured.out, captured.err)

    return run


@pytest.fixture
def nobody() -> str:
    """An address at which nothing answers."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{free.getsockname()[1]}"
