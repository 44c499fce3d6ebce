from __future__ import annotations

import io
import math
import sys

from google.protobuf import json_format

from services.cli.output import Output, quoted, text_of
from services.cli.run import COLUMNS
from services.cli.terminal import escape, is_interactive, wants_color
from tests.cli.plane_state import RUN, id_of
from tunesmith.v1 import job_spec_pb2, run_pb2, telemetry_pb2

EVIL = "a\x1b]0;owned\x07\x1b[2Jb\x9b31m\u202e"


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_a_list_off_a_terminal_is_one_key_value_line_an_entry(cli, fake):
    fake.add_run("RUNNING", display_name="two words", step=5, total_steps=10)

    result = cli("run", "list")

    (line,) = result.out.splitlines()
    assert line.startswith(f'run_id={RUN} name="two words" state=RUNNING progress=5/10 ')


def test_one_thing_off_a_terminal_is_one_key_value_line_a_field(cli, fake):
    spec = job_spec_pb2.JobSpec()
    spec.supervised.training.learning_rate = 2e-4
    fake.add_run("FAILED", spec=spec, failure=run_pb2.RunFailure(message="a\nb"))

    lines = cli("run", "get", RUN).out.splitlines()

    assert f"run_id={RUN}" in lines
    assert "state=FAILED" in lines
    assert "spec.supervised.training.learning_rate=0.0002" in lines
    assert r'failure.message="a\nb"' in lines


def test_a_kind_that_was_chosen_and_left_at_its_defaults_is_shown(cli, fake):
    fake.add_run("QUEUED", spec=job_spec_pb2.JobSpec(tiny_lm={}))

    assert 'spec.tiny_lm="all defaults"' in cli("run", "get", RUN).out.splitlines()


def test_json_is_the_proto_json_of_the_response(cli, fake):
    run = fake.add_run("RUNNING", step=5)

    got, listed = cli("run", "get", RUN, "-o", "json"), cli("run", "list", "-o", "json")

    assert json_format.ParseDict(got.json, run_pb2.GetRunResponse()).run == run
    assert json_format.ParseDict(listed.json, run_pb2.ListRunsResponse()).runs[0] == run
    assert got.json["run"]["run_id"] == RUN
    assert got.json["run"]["total_steps"] == "0"  # a field without presence is always there, an int64 is a text


def test_jsonl_is_one_entry_a_line(cli, fake):
    for number in range(3):
        fake.add_run("RUNNING", id_of("run", number))

    result = cli("run", "list", "-o", "jsonl")

    assert [run["run_id"] for run in result.json_lines] == [id_of("run", number) for number in (2, 1, 0)]


def test_the_format_may_stand_before_the_command(cli, fake):
    fake.add_run("RUNNING")

    assert cli("-o", "json", "run", "get", RUN).json == cli("run", "get", RUN, "-o", "json").json


def test_all_pages_are_read_and_a_limit_says_that_there_is_more(cli, fake):
    for number in range(250):
        fake.add_run("RUNNING", id_of("run", number))

    assert len(cli("run", "list", "--all").out.splitlines()) == 250
    limited = cli("run", "list", "--limit", "120")
    assert len(limited.out.splitlines()) == 120
    assert "there are more than 120" in limited.err


def test_following_in_jsonl_prints_the_frames(cli, fake):
    fake.add_run("SUCCEEDED", earlier=["RUNNING"])
    fake.state.losses = [2.0, math.nan]

    frames = cli("run", "watch", RUN, "-o", "jsonl").json_lines

    rows = [json_format.ParseDict(frame, telemetry_pb2.WatchMetricsResponse()) for frame in frames if "rows" in frame]
    assert [row.rows.batches[0].steps[0] for row in rows] == [1, 2]
    assert [frame["run"]["state"] for frame in frames if "run" in frame] == ["RUN_STATE_RUNNING", "RUN_STATE_SUCCEEDED"]


def test_following_off_a_terminal_prints_one_line_a_row(cli, fake):
    fake.add_run("SUCCEEDED", earlier=["RUNNING"], adapter_id=id_of("adp", 1))
    fake.state.losses = [2.0, 1.5]

    lines = cli("run", "watch", RUN).out.splitlines()

    assert [line.partition("loss=")[2] for line in lines if line.startswith("step=")] == ["2", "1.5"]
    assert f"run_id={RUN} state=RUNNING attempt=1" in lines
    assert lines[-1].startswith(f"run_id={RUN} state=SUCCEEDED")


def test_metrics_are_summed_up_or_listed(cli, fake):
    fake.add_run("SUCCEEDED")
    fake.state.losses = [2.0, 0.5, 1.0]

    assert cli("run", "metrics", RUN).out == "name=loss points=3 first=2 last=1 min=0.5 max=2 not_finite=0\n"
    assert cli("run", "metrics", RUN, "--points").out == "step=1 loss=2\nstep=2 loss=0.5\nstep=3 loss=1\n"


def test_a_run_without_metrics_is_no_error(cli, fake):
    fake.add_run("QUEUED")

    result = cli("run", "metrics", RUN)

    assert (result.code, result.out, result.err) == (0, "", "the run has no metrics yet\n")


def test_control_characters_of_a_server_never_reach_a_terminal(monkeypatch):
    terminal = Terminal()
    monkeypatch.setattr(sys, "stdout", terminal)
    monkeypatch.setenv("TERM", "xterm")
    run = run_pb2.Run(run_id=RUN, display_name=EVIL, state_reason=EVIL)
    out = Output(color="never")

    out.entries(run_pb2.ListRunsResponse(runs=[run]), [run], COLUMNS)
    out.response(run_pb2.GetRunResponse(run=run), run)
    out.line(EVIL)

    assert not {"\x1b", "\x07", "\x9b", "\u202e"} & set(terminal.getvalue())
    assert r"\x1b]0;owned\x07" in "".join(terminal.getvalue().split())


def test_a_narrow_terminal_gets_whole_ids_and_no_slivers(monkeypatch):
    run = run_pb2.Run(run_id=RUN, display_name="two words", state="RUN_STATE_SUCCEEDED", step=180, total_steps=180)
    drawn = {}
    for width in ("120", "80", "60"):
        monkeypatch.setattr(sys, "stdout", terminal := Terminal())
        monkeypatch.setenv("TERM", "xterm")
        monkeypatch.setenv("COLUMNS", width)
        Output(color="never").entries(run_pb2.ListRunsResponse(runs=[run]), [run], COLUMNS)
        drawn[width] = [line.rstrip().split(None, 1) for line in terminal.getvalue().splitlines()]

    assert drawn["120"][0][0] == "RUN"
    assert drawn["120"][1][0] == RUN
    row = dict(line for line in drawn["80"] if len(line) == 2)[RUN]
    assert "SUCCEEDED" in row
    assert "180/180" in row
    assert ["run_id", RUN] in drawn["60"]
    assert ["name", "two words"] in drawn["60"]
    assert ["progress", "180/180"] in drawn["60"]
    assert "create_time" not in {line[0] for line in drawn["60"]}  # it has none


def test_control_characters_in_plain_lines_are_escaped_as_in_json():
    assert quoted("a\x1bb") == r'"a\u001bb"'
    assert quoted("plain-text_1.5") == "plain-text_1.5"
    assert quoted("") == '""'
    assert quoted("zwei Wörter") == '"zwei Wörter"'


def test_escaping_keeps_what_a_person_wrote():
    assert escape("Größe ♫ 音楽") == "Größe ♫ 音楽"
    assert escape("a\tb\nc", keep="\n") == "a\\tb\nc"


def test_colour_follows_the_terminal_and_no_color(monkeypatch):
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    assert wants_color(Terminal(), "auto")
    assert not wants_color(io.StringIO(), "auto")
    assert wants_color(io.StringIO(), "always")

    monkeypatch.setenv("NO_COLOR", "1")
    assert not wants_color(Terminal(), "auto")

    monkeypatch.setenv("TERM", "dumb")
    assert not is_interactive(Terminal())


def test_numbers_have_six_digits():
    assert text_of(1 / 3) == "0.333333"
    assert text_of(2e-4) == "0.0002"
    assert text_of(math.nan) == "nan"
