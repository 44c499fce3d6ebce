"""What `make demo` runs, shortened: services as a child process, a real training, twice on the same folder."""

from __future__ import annotations

import re
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest

from services.cli import demo_loop
from services.cli.local_services import ServicesDidNotStart, local_services


@pytest.fixture
def short(monkeypatch):
    for name, value in {"PROMPTS": 6, "CLIPS_EACH": 3, "QUESTIONS": 4, "STEPS": 2}.items():
        monkeypatch.setattr(demo_loop, name, value)


def test_the_demo_goes_from_a_wish_to_adapters_that_are_heard_and_goes_on_where_it_was(
    cli, short, monkeypatch, tmp_path
):
    first = cli("demo", "--data-dir", str(tmp_path), "--noise", "0")
    monkeypatch.setattr(demo_loop, "TRAININGS", {"supervised": demo_loop.TRAININGS["supervised"]})
    second = cli("demo", "--data-dir", str(tmp_path), "--noise", "0")

    assert (first.code, first.err, second.code) == (0, "", 0)
    assert re.search(r"rated into the data set demo-mode-major: \d+ liked, \d+ disliked, \d+ unclear", first.out)
    for number, kind in enumerate(("supervised", "dpo", "ranking"), start=1):
        assert f"✓ {kind}: demo-mode-major@{number} learnt from " in first.out
    shares = re.findall(r"^  (base model|supervised|dpo|ranking) +\d", first.out, re.MULTILINE)
    assert shares == ["base model", "supervised", "dpo", "ranking"] * 4
    clips = [Path(path).read_bytes() for path in re.findall(r"\S+\.wav", first.out)]
    assert len(clips) == 4 and all(clip[:4] == b"RIFF" and b"tsmc" in clip for clip in clips)
    assert "every clip was rated before" in second.out
    assert "✓ supervised: demo-mode-major@4 learnt from " in second.out


def test_the_demo_stores_what_was_heard_with_the_adapter(cli, short, monkeypatch, tmp_path):
    monkeypatch.setattr(demo_loop, "TRAININGS", {"ranking": demo_loop.TRAININGS["ranking"]})
    cli("demo", "--data-dir", str(tmp_path), "--wish", "register=high", "--noise", "0.2")

    with local_services(tmp_path, tmp_path / "log") as address:
        report = cli("adapter", "report", "demo-register-high-noise-0.2", "--server", address)

    assert "## Heard" in report.out and "| register=high | clips |" in report.out
    assert "| wished share | 4 |" in report.out


def test_a_wish_that_there_is_not_is_refused_before_anything_starts(cli, tmp_path):
    result = cli("demo", "--data-dir", str(tmp_path / "demo"), "--wish", "mood=happy")

    assert result.code == 2
    assert "there is no attribute 'mood'; give one of register, tempo, mode, timbre, pattern" in result.err
    assert not (tmp_path / "demo").exists()


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
