"""A run that plays clips, followed: how many are done, and how to hear them."""

from __future__ import annotations

import io
import sys
from pathlib import Path

import pytest

from services.cli.main import main
from tests.cli.conftest import Run
from tests.cli.plane import FakePlane
from tests.cli.plane_state import RUN
from tunesmith.v1 import job_spec_pb2, run_pb2

SPEC = job_spec_pb2.JobSpec(generate={})


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def add(fake: FakePlane, attempt: int, prompt_index: int, seed: int) -> None:
    """Let an attempt have played a clip; previews are to be added as they are listed."""
    data = f"RIFF {attempt} {prompt_index} {seed}".encode()
    file = {"path": "a.wav", "digest": fake.add_blob(data), "size_bytes": len(data)}
    prompt = "fast, high scale" if prompt_index == 0 else "a drum"
    fake.state.previews.append(
        run_pb2.Preview(run_id=RUN, attempt=attempt, prompt_index=prompt_index, prompt=prompt, seed=seed, file=file)
    )


@pytest.fixture
def ended(fake: FakePlane) -> FakePlane:
    """A run that has played three clips, one of them in a lost attempt as well."""
    fake.add_run("SUCCEEDED", earlier=["RUNNING"], spec=SPEC, step=3, total_steps=3)
    fake.state.metric, fake.state.losses = "clips_per_s", [1.5, 1.25, 2.0]
    add(fake, 1, 0, 3)
    add(fake, 2, 0, 3)
    add(fake, 2, 0, 4)
    add(fake, 2, 1, 3)
    return fake


def test_off_a_terminal_a_row_says_how_many_clips_are_done(cli: Run, ended: FakePlane) -> None:
    result = cli("run", "watch", RUN)

    lines = result.out.splitlines()
    assert result.code == 0
    row = [line for line in lines if line.startswith("clip=")][-1]
    assert row.replace(" total_clips=3", "") == "clip=3 clips_per_s=2"  # the run's own frame may come behind it
    assert lines[-1] == f"run_id={RUN} state=SUCCEEDED clips=3"
    assert "epoch" not in result.out
    assert result.err.splitlines()[-1] == f"next: tunesmith run previews {RUN} --to DIR"


def test_on_a_terminal_the_bar_counts_clips(ended: FakePlane, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdout", terminal := Terminal())
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "120")

    code = main(["run", "watch", RUN, "--color", "never"])

    drawn = terminal.getvalue()
    assert code == 0
    assert "clip 3/3" in drawn and "100%" in drawn
    assert "step" not in drawn and "epoch" not in drawn


@pytest.mark.parametrize("done", [0, 2])
def test_after_a_failure_or_a_cancel_it_is_not_to_be_resumed_and_what_was_played_can_be_heard(
    cli: Run, fake: FakePlane, done: int
) -> None:
    why = run_pb2.RunFailure(reason="OUT_OF_MEMORY", message="no")
    told = {}
    for state, failure in (("FAILED", why), ("CANCELLED", None)):
        fake.add_run(state, spec=SPEC, step=done, total_steps=3, failure=failure)
        told[state] = cli("run", "watch", RUN).err

    hear = f"tunesmith run previews {RUN} --to DIR"
    assert f"next: tunesmith run logs {RUN}\n" in told["FAILED"]
    assert "submit it again to play the rest: the same settings give the same clips" in told["CANCELLED"]
    for text in told.values():
        assert (hear in text) == bool(done)
        assert "resume" not in text


def test_clips_are_listed_with_their_seeds(cli: Run, ended: FakePlane) -> None:
    first = cli("run", "previews", RUN).out.splitlines()[0]

    assert first.startswith('prompt_index=0 seed=3 duration_s=0 prompt="fast, high scale" digest=')


def test_each_clip_gets_a_file_of_its_own_by_its_seed_and_that_of_the_last_attempt(
    cli: Run, ended: FakePlane, tmp_path: Path
) -> None:
    result = cli("run", "previews", RUN, "--to", str(tmp_path / "clips"))

    files = {path.name: path.read_bytes() for path in (tmp_path / "clips").iterdir()}
    assert files == {
        "prompt0-fast-high-scale-seed3.wav": b"RIFF 2 0 3",
        "prompt0-fast-high-scale-seed4.wav": b"RIFF 2 0 4",
        "prompt1-a-drum-seed3.wav": b"RIFF 2 1 3",
    }
    shown = [line.split()[0].removeprefix(f"path={tmp_path}/clips/") for line in result.out.splitlines()]
    assert shown == list(dict.fromkeys(sorted(files)))


def test_all_clips_are_written_unless_a_limit_is_given(cli: Run, ended: FakePlane, tmp_path: Path) -> None:
    ended.state.previews.clear()
    for seed in range(60):
        add(ended, 1, 0, seed)

    every = cli("run", "previews", RUN, "--to", str(tmp_path / "every"))
    some = cli("run", "previews", RUN, "--to", str(tmp_path / "some"), "--limit", "2", "-o", "json")

    assert len(every.out.splitlines()) == len(list((tmp_path / "every").iterdir())) == 60
    assert [one["seed"] for one in some.json["previews"]] == ["0", "1"]
    assert len(list((tmp_path / "some").iterdir())) == 2
