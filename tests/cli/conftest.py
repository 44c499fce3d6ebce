"""Fixtures of the command line's tests: a fake control plane, and commands run in this process."""

from __future__ import annotations

import json
import socket
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import grpc
import pytest
import pytest_asyncio

from services.cli.main import main
from services.rpc import errors
from tests.cli.lm import TRAIN
from tests.cli.plane import FakePlane
from tests.cli.plane_settings import FakeSetting, RealSetting, Setting
from tests.support.control_plane import Plane
from trainer_node.engines.tinylm.synthetic import write_synthetic
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
def fake(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakePlane]:
    """A fake control plane, which commands find by TUNESMITH_SERVER."""
    fake = FakePlane()
    monkeypatch.setenv("TUNESMITH_SERVER", fake.address)
    monkeypatch.setattr(watch, "FIRST_DELAY_S", 0.01)
    monkeypatch.setattr(errors, "RETRY_AFTER", timedelta(milliseconds=10))
    yield fake
    fake.stop()


@pytest.fixture
def client(fake: FakePlane) -> Iterator[Client]:
    """A client of the fake."""
    with Client(fake.address) as client:
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


@pytest.fixture(scope="session")
def texts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small corpus in both languages, for language models; never changed."""
    folder = tmp_path_factory.mktemp("texts")
    write_synthetic(folder, size_bytes=40_000)
    return folder


@pytest.fixture
def out(tmp_path: Path) -> Path:
    """Where language models are written."""
    return tmp_path / "model"


@pytest.fixture
def train(cli: Run, texts: Path, out: Path) -> Run:
    """Trains a language model for an epoch into `out`."""
    return lambda *args: cli(*TRAIN, "--corpus-path", str(texts), "--output", str(out), "--epochs", "1", *args)


@pytest.fixture
def nobody() -> Iterator[str]:
    """An address at which nothing answers, and that nobody else can take meanwhile: bound, but not listening."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield f"127.0.0.1:{taken.getsockname()[1]}"


@pytest.fixture
def real_setting(plane: Plane) -> RealSetting:
    """Ways to what a test starts from, on the real control plane."""
    return RealSetting(plane)


@pytest.fixture
def fake_setting(fake: FakePlane) -> FakeSetting:
    """The same on the fake one."""
    return FakeSetting(fake)


@pytest.fixture(params=["real", "fake"])
def setting(request: pytest.FixtureRequest) -> Setting:
    """The real control plane, then the fake one: both keep the same promises."""
    found: Setting = request.getfixturevalue(f"{request.param}_setting")
    return found


@pytest_asyncio.fixture
async def channel(setting: Setting) -> AsyncIterator[grpc.aio.Channel]:
    """To the control plane of the setting."""
    async with grpc.aio.insecure_channel(setting.address) as channel:
        yield channel
