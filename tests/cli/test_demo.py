"""What `make demo` runs, shortened: services as a child process, a real training, twice on the same folder."""

from __future__ import annotations

import re
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest

from services.cli import demo
from services.cli.local_services import ServicesDidNotStart, local_services


@pytest.fixture
def short(monkeypatch):
    small = {"epochs": 1, "batch_size": 8, "log_every_steps": 1, "preview_s": 0.5, "preview_prompts": ["a bell"]}
    monkeypatch.setattr(demo, "SETTINGS", demo.SETTINGS | small)
    monkeypatch.setattr(demo, "CLIPS", 8)


def test_the_demo_ends_with_adapter_report_and_sound_and_works_twice(cli, short, tmp_path):
    first, second = cli("demo", "--data-dir", str(tmp_path)), cli("demo", "--data-dir", str(tmp_path))

    for number, result in enumerate((first, second), start=1):
        assert (result.code, result.err) == (0, "")
        assert f"Adapter  demo@{number}, adp_" in result.out
        assert "step=1 total_steps=1 epoch=1/1 loss=" in result.out
        assert "Report   1 steps in" in result.out
        before, after = (Path(path) for path in re.findall(r"(?:before|after ) (\S+\.wav)", result.out))
        assert before.read_bytes()[:4] == after.read_bytes()[:4] == b"RIFF"
        assert (tmp_path / "adapters" / f"demo-v{number}" / "adapter_model.safetensors").is_file()
        assert f"tunesmith up --data-dir {tmp_path}" in result.out


def test_a_folder_in_use_is_told_and_nothing_is_left_behind(tmp_path):
    with (
        local_services(tmp_path, tmp_path / "one.log"),
        pytest.raises(ServicesDidNotStart) as caught,
        local_services(tmp_path, tmp_path / "two.log"),
    ):
        pass

    assert caught.value.reason == "CANNOT_START"
    assert str(tmp_path) in caught.value.message


def test_the_services_end_when_their_parent_is_killed(tmp_path):
    program = (
        "import os, signal, sys; from pathlib import Path; from services.cli.local_services import local_services\n"
        f"with local_services(Path({str(tmp_path)!r}), Path({str(tmp_path / 'log')!r})) as address:\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    subprocess.run([sys.executable, "-c", program], check=False, timeout=120)

    for _ in range(50):  # each try takes a second; the first may come while the folder is still being closed
        with suppress(ServicesDidNotStart), local_services(tmp_path, tmp_path / "second.log") as address:
            assert address
            return
    pytest.fail("the folder was never free again")
