"""A run that makes a language model, followed: stages, epochs, texts, and the model in the end."""

from __future__ import annotations

import io
import sys
from pathlib import Path

import pytest

from services.cli.main import main
from tests.cli.conftest import Run
from tests.cli.plane import FakePlane
from tests.cli.plane_state import RUN, id_of
from tunesmith.v1 import job_spec_pb2, run_pb2

LOG = [
    "stage 5/8 training",
    "epoch 1/1  train 5.1000  validation 5.2000  lr 0.0003  40,000 tokens/s  1.0 s",
    "sample after epoch 1: The old man and \x1b[31m the sea",
]


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def ended(fake: FakePlane) -> FakePlane:
    """A run that has trained for three steps and made a model."""
    made = fake.add_model(2, run_id=RUN, best_loss=5.2, final_loss=5.1)
    fake.add_run(
        "SUCCEEDED",
        earlier=["RUNNING"],
        spec=job_spec_pb2.JobSpec(tiny_lm={}),
        model_id=made.model_id,
        final_loss=5.1,
        step=3,
    )
    fake.state.losses, fake.state.log_lines = [5.5, 5.2, 5.1], LOG
    texts = {(0, 3): "The old man and the sea", (1, 3): 'Ella dijo que "sí"'}
    fake.state.previews = [
        run_pb2.Preview(run_id=RUN, attempt=1, step=step, prompt_index=place, prompt=text[:7], text=text, seed=7)
        for (place, step), text in texts.items()
    ]
    return fake


def test_off_a_terminal_rows_are_answers_and_the_log_is_told_beside_them(cli: Run, ended: FakePlane) -> None:
    result = cli("run", "watch", RUN)

    lines = result.out.splitlines()
    assert result.code == 0
    assert [line.partition("loss=")[2] for line in lines if line.startswith("step=")] == ["5.5", "5.2", "5.1"]
    assert lines[-1] == f"run_id={RUN} state=SUCCEEDED step=3 model=tales@2 best_loss=5.2"
    assert result.err.splitlines()[:3] == [*LOG[:2], LOG[2].replace("\x1b", "\\x1b")]


def test_the_end_says_how_to_get_the_model_and_let_it_write(cli: Run, ended: FakePlane) -> None:
    assert cli("run", "watch", RUN).err.splitlines()[-3:] == [
        f"next: tunesmith run report {RUN}",
        "      tunesmith model download tales@2",
        '      tunesmith lm sample tales-v2 "The old man"',
    ]


def test_programs_get_frames_of_the_run_and_its_rows_only(cli: Run, ended: FakePlane) -> None:
    frames = cli("run", "watch", RUN, "-o", "jsonl").json_lines

    assert {key for frame in frames for key in frame} == {"run", "rows", "resume_token"}


def test_on_a_terminal_the_log_scrolls_above_the_bar(ended: FakePlane, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdout", terminal := Terminal())
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "120")

    code = main(["run", "watch", RUN, "--color", "never"])

    drawn = terminal.getvalue()
    assert code == 0
    for told in ("stage 5/8 training", "epoch 1/1  train 5.1000", "sample after epoch 1: The old man and \\x1b[31m"):
        assert told in drawn, told
    assert "validation at step" not in drawn


def test_of_a_long_log_that_is_there_already_the_end_is_shown(
    cli: Run, ended: FakePlane, monkeypatch: pytest.MonkeyPatch
) -> None:
    from services.cli import attach
    from tunesmith.v1 import job_event_pb2, telemetry_pb2

    lines = [telemetry_pb2.LogLine(text=text, stream=job_event_pb2.LOG_STREAM_STDOUT) for text in LOG]
    lines.append(telemetry_pb2.LogLine(text="a warning", stream=job_event_pb2.LOG_STREAM_STDERR))
    frame = telemetry_pb2.WatchLogsResponse(lines=telemetry_pb2.LogLines(lines=lines))
    monkeypatch.setattr("tunesmith.client.watch.watch_logs", lambda *_: iter([frame]))
    monkeypatch.setattr(attach, "RECENT_LINES", 1)

    told = cli("run", "watch", RUN).err.splitlines()

    assert told[0] == "… 2 lines before; `tunesmith run logs` prints all"
    assert told[1].startswith("sample after epoch 1")
    assert "a warning" not in told


def test_texts_are_listed_and_written_to_files(cli: Run, ended: FakePlane, tmp_path: Path) -> None:
    listed = cli("run", "previews", RUN).out.splitlines()
    written = cli("run", "previews", RUN, "--to", str(tmp_path / "texts")).out.splitlines()

    assert listed[0] == 'step=3 prompt_index=0 prompt="The old" text="The old man and the sea" seed=7'
    assert written[1].startswith(f"path={tmp_path}/texts/prompt1-ella-di-step000003.txt step=3 ")
    assert (tmp_path / "texts" / "prompt1-ella-di-step000003.txt").read_text() == 'Ella dijo que "sí"\n'


def test_a_run_shows_the_model_that_it_made(cli: Run, ended: FakePlane) -> None:
    assert f"model_id={id_of('mdl', 2)}" in cli("run", "get", RUN).out.splitlines()
    assert f" model_id={id_of('mdl', 2)} " in cli("run", "list").out


@pytest.mark.parametrize("step", [0, 3])
def test_a_failure_is_told_once_and_resuming_only_where_there_was_a_step(cli: Run, fake: FakePlane, step: int) -> None:
    why = run_pb2.RunFailure(reason="DATA_INVALID", message="no text", stderr_tail="a trace\nDATA_INVALID: no text\n")
    fake.add_run("FAILED", step=step, spec=job_spec_pb2.JobSpec(tiny_lm={}), failure=why)

    result = cli("run", "watch", RUN)

    assert result.code == 7
    assert result.err.splitlines()[:3] == [
        "  | a trace",
        "error[DATA_INVALID]: no text",
        f"next: tunesmith run logs {RUN}",
    ]
    assert (f"tunesmith run resume {RUN}" in result.err) == bool(step)
