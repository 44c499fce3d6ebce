"""What is printed to be typed works as it stands: this program, by the name that finds it, at this server."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from services.cli.main import MEMBERS
from services.cli.typed import typed
from tests.cli.plane_state import RUN

BIN = Path(sys.executable).parent


@pytest.fixture
def called_by_its_path(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> str:
    """The program in a folder with a blank in its name that PATH does not name."""
    program = tmp_path / "my venv" / "tunesmith"
    program.parent.mkdir()
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    monkeypatch.setattr(sys, "argv", [str(program)])
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    return str(program)


def test_a_program_that_the_path_does_not_name_is_printed_as_it_was_called(called_by_its_path: str) -> None:
    assert typed("next: tunesmith run list\n `tunesmith train supervised`") == (
        f"next: '{called_by_its_path}' run list\n `'{called_by_its_path}' train supervised`"
    )


def test_a_program_on_the_path_is_called_by_its_name(called_by_its_path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(Path(called_by_its_path).parent))

    assert typed("next: tunesmith run list") == "next: tunesmith run list"


def test_every_command_is_known_and_names_and_prose_are_left_alone(called_by_its_path: str) -> None:
    for member in MEMBERS:
        assert called_by_its_path in typed(f"tunesmith {member}"), member

    for text in (
        "pip install 'tunesmith[train]'",
        "start tunesmith as another user",
        "/opt/tunesmith run",
        "a_tunesmith up",
    ):
        assert typed(text) == text


def test_a_server_that_is_not_the_usual_one_is_part_of_what_is_printed(cli, fake, monkeypatch, nobody) -> None:
    monkeypatch.delenv("TUNESMITH_SERVER")
    fake.add_run("SUCCEEDED")

    watched = cli("run", "watch", RUN, "--server", fake.address)
    refused = cli("run", "get", "run_01J9", "--server", fake.address)

    assert f"next: tunesmith --server {fake.address} run report {RUN}" in watched.err
    assert f"`tunesmith --server {fake.address} run list`" in refused.err
    assert cli("--server", fake.address, "run", "report", RUN).code != 2  # as printed, it is understood

    assert typed("tunesmith dataset make-demo x", server="host:1") == "tunesmith dataset make-demo x"  # asks nobody

    monkeypatch.setenv("TUNESMITH_SERVER", fake.address)
    assert f"next: tunesmith run report {RUN}" in cli("run", "watch", RUN).err


def test_the_demo_clips_are_written_and_can_be_imported(tmp_path: Path, cli) -> None:
    folder = tmp_path / "clips"

    written = cli("dataset", "make-demo", str(folder))
    again = cli("dataset", "make-demo", str(folder))

    assert (written.code, again.code) == (0, 4)
    assert f"dataset import {folder / 'rated.jsonl'} --to NAME" in written.err
    assert len((folder / "rated.jsonl").read_text().splitlines()) == len(list((folder / "audio").iterdir())) == 24


def test_the_installed_program_prints_the_path_by_which_it_was_called(nobody: str) -> None:
    command = [str(BIN / "tunesmith"), "--server", nobody, "run", "list"]

    done = subprocess.run(command, capture_output=True, text=True, env={"PATH": "/usr/bin:/bin"})

    assert done.returncode == 6
    assert f"`{BIN / 'tunesmith'} up`" in done.stderr
