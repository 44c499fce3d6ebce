"""`tunesmith model train-micro`: its options, its folder, what it shows, and how it stops and goes on."""

from __future__ import annotations

import io
import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from services.cli.micro_progress import Course
from services.cli.model_micro import make, train_micro
from services.cli.output import Output
from services.cli.session import Session
from tests.cli.conftest import Run
from tests.micro.small import SMALL
from tests.rules.sources import ROOT
from trainer_node.engines.micro import measuring, recipe
from trainer_node.engines.micro.card import SUMS

PHASES = ["plain", "quantised", "balanced", "polish", "encode", "decoder", "measure"]


class CtrlC(io.StringIO):
    """A standard output on which Ctrl-C is pressed when certain words appear."""

    def __init__(self, words: str) -> None:
        super().__init__()
        self._words = words

    def write(self, text: str) -> int:
        if self._words in text:
            raise KeyboardInterrupt
        return super().write(text)


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def session_on(stdout: io.StringIO, *, output_format: str = "table") -> Session:
    return Session(out=Output(format=output_format, stdout=stdout, stderr=io.StringIO()))


def made(folder: Path, session: Session) -> str:
    """What a whole making prints."""
    make(session, folder, SMALL, threads=1, clips=1)
    assert isinstance(session.out.answers, io.StringIO)
    return session.out.answers.getvalue()


def notes(session: Session) -> str:
    assert isinstance(session.out.notes, io.StringIO)
    return session.out.notes.getvalue()


def phases(lines: list[str]) -> list[str]:
    """The phases that lines tell of, each once."""
    found = [line.split()[0].removeprefix("phase=") for line in lines if line.startswith("phase=")]
    return list(dict.fromkeys(found))


def test_a_pipe_gets_a_line_a_step_and_what_was_heard(tmp_path: Path) -> None:
    session = session_on(io.StringIO())

    lines = made(tmp_path / "micro", session).splitlines()

    assert phases(lines) == PHASES
    assert lines[0].startswith("phase=plain place=1/7 step=40 steps=40 loss=") and "eta=" in lines[0]
    assert 'heard_of="true tunes" register=1.000 tempo=1.000 mode=1.000 timbre=1.000' in "\n".join(lines)
    assert sum(line.startswith("heard_of=") for line in lines) == 5
    assert lines[-1] == f"base_model={tmp_path / 'micro'} card={tmp_path / 'micro' / 'README.md'}"
    assert "about an hour on one core" in notes(session)
    assert f"next: tunesmith train supervised --base-model {tmp_path / 'micro'}" in notes(session)


def test_a_program_gets_json(tmp_path: Path) -> None:
    session = session_on(io.StringIO(), output_format="jsonl")

    answers = [json.loads(line) for line in made(tmp_path / "micro", session).splitlines()]

    assert list(dict.fromkeys(row["phase"] for row in answers[:-1])) == PHASES
    assert answers[-1]["measured"]["true"]["whole"] == 1
    assert notes(session) == ""


def test_a_terminal_gets_bars_and_a_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "120")
    monkeypatch.setenv("TERM", "xterm-256color")

    shown = made(tmp_path / "micro", session_on(Terminal()))

    assert all(phase in shown for phase in PHASES) and "20/20  loss" in shown
    assert "HEARD OF" in shown and "held-out combinations" in shown


def test_ctrl_c_after_the_codec_says_so_and_the_same_command_goes_on_there(tmp_path: Path) -> None:
    folder = tmp_path / "micro"
    stopped = session_on(CtrlC("phase=encode"))

    with pytest.raises(KeyboardInterrupt):
        made(folder, stopped)
    again = made(folder, session_on(io.StringIO()))

    assert f"the codec is kept in {folder / recipe.MAKING}: the same command goes on after it" in notes(stopped)
    assert phases(again.splitlines()) == ["encode", "decoder", "measure"]
    assert (folder / SUMS).is_file() and not (folder / recipe.MAKING).exists()


def test_ctrl_c_while_it_is_measured_does_not_cost_the_model(tmp_path: Path) -> None:
    folder = tmp_path / "micro"
    stopped = session_on(CtrlC("phase=measure"))

    with pytest.raises(KeyboardInterrupt):
        made(folder, stopped)
    again = made(folder, session_on(io.StringIO()))

    assert "the model is trained: the same command measures it" in notes(stopped)
    assert phases(again.splitlines()) == ["measure"]


def test_ctrl_c_before_ends_with_130_and_says_that_it_begins_again(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "services.cli.main", "model", "train-micro", str(tmp_path / "micro")]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        begun = any("about an hour" in line for line in process.stderr)

        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=120)

    assert begun and process.returncode == 130
    assert "stopped before the codec was done; the same command begins again" in err
    assert "Traceback" not in err


@pytest.mark.parametrize("there", ["notes.txt", SUMS])
def test_a_folder_that_is_not_empty_is_left_alone(there: str, cli: Run, tmp_path: Path) -> None:
    (tmp_path / there).write_text("mine")

    result = cli("model", "train-micro", str(tmp_path))

    assert result.code == 4
    assert f"error[FOLDER_NOT_EMPTY]: {tmp_path} is not empty; name a new folder" in result.err
    assert [path.name for path in tmp_path.iterdir()] == [there]


def test_a_model_that_another_recipe_has_made_is_left_alone(cli: Run, tmp_path: Path) -> None:
    (tmp_path / recipe.MADE).write_text('{"recipe": {}, "threads": 2}')

    result = cli("model", "train-micro", str(tmp_path))

    assert result.code == 4


def test_a_card_has_as_many_clips_as_that_of_the_model_that_comes_along() -> None:
    assert {option.name: option.default for option in train_micro.params}["clips"] == measuring.CLIPS


@pytest.mark.parametrize("wrong", [("--threads", "0"), ("--seed", "-1"), ("--clips", "0"), ("--steps", "3")])
def test_what_makes_no_sense_is_refused(wrong: tuple[str, str], cli: Run, tmp_path: Path) -> None:
    result = cli("model", "train-micro", str(tmp_path / "micro"), *wrong)

    assert result.code == 2
    assert wrong[0] in result.err
    assert not (tmp_path / "micro").exists()


def test_the_time_left_is_that_of_all_phases_and_leaves_out_what_an_earlier_start_has_done() -> None:
    time_s = [100.0]
    steps = {"plain": 100, "encode": 1000, "decoder": 1000}
    whole, rest = Course(steps, now=lambda: time_s[0]), Course(steps, now=lambda: time_s[0])
    unknown = whole.left_s

    time_s[0] += 35.0
    whole.see("plain", 50)  # 17.5 s of work in 35 s
    rest.see("encode", 1000)  # 11 s of work

    assert unknown is None
    assert whole.left_s == pytest.approx(2 * (17.5 + 11 + 210))
    assert rest.left_s == pytest.approx(35 / 11 * 210)
