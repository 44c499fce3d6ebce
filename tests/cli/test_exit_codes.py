from __future__ import annotations

import json

import pytest

from services.cli import run as run_commands
from services.cli.exit_codes import BY_CODE, BY_REASON, MEANINGS, ExitCode, exit_code_of
from services.rpc.errors import CODES
from tests.cli.plane_state import RUN
from tunesmith.errors import FieldProblem, TunesmithError
from tunesmith.v1 import run_pb2


class Refusal(TunesmithError):
    def __init__(self, reason, message="no", **kwargs):
        super().__init__(message, **kwargs)
        self.__dict__["reason"] = reason


def test_the_numbers_are_those_that_were_promised():
    assert {code.name: int(code) for code in ExitCode} == {
        "OK": 0, "BUG": 1, "USAGE": 2, "NOT_FOUND": 3, "CONFLICT": 4, "AUTH": 5, "UNREACHABLE": 6, "RUN_FAILED": 7,
        "RUN_CANCELLED": 8, "PREFLIGHT_FAILED": 9, "TIMEOUT": 124, "INTERRUPT": 130,
    }  # fmt: skip
    assert set(MEANINGS) == set(ExitCode)


def test_every_reason_of_the_api_but_internal_has_an_exit_code_that_is_no_bug():
    bugs = [reason for reason, code in CODES.items() if exit_code_of(reason, code.name) is ExitCode.BUG]

    assert bugs == ["INTERNAL"]
    assert ExitCode.BUG not in {*BY_CODE.values(), *BY_REASON.values()}


@pytest.mark.parametrize(
    ("reason", "code"),
    [
        ("INVALID_FIELD", 2),
        ("RUN_NOT_FOUND", 3),
        ("NAME_TAKEN", 4),
        ("ETAG_MISMATCH", 4),
        ("RUN_FINISHED", 4),
        ("INTERNAL", 1),
        ("DEADLINE_EXCEEDED", 124),
    ],
)
def test_a_refused_call_ends_with_the_exit_code_of_its_reason(cli, fake, reason, code):
    fake.state.failure = Refusal(reason)

    result = cli("run", "get", RUN)

    assert result.code == code
    assert result.out == ""
    assert f"error[{reason}]" in result.err
    assert "request id req-1234" in result.err


def test_the_fields_of_an_error_are_listed_once(cli, fake):
    problem = FieldProblem("spec.supervised.training.epochs", "0 is below 1")
    fake.state.failure = Refusal("INVALID_FIELD", str(problem), fields=[problem])

    result = cli("run", "get", RUN)

    assert result.err.splitlines()[:2] == ["error[INVALID_FIELD]: 1 field is not right", f"  {problem}"]


def test_errors_are_json_on_stderr_where_json_was_asked_for(cli, fake):
    fake.state.failure = Refusal("RUN_NOT_FOUND", "no such run", fields=[FieldProblem("run_id", "unknown")])

    result = cli("run", "get", RUN, "-o", "json")

    error = json.loads(result.err)["error"]
    assert result.out == ""
    assert (error["reason"], error["message"], error["exit_code"]) == ("RUN_NOT_FOUND", "no such run", 3)
    assert error["fields"] == [{"path": "run_id", "what": "unknown"}]
    assert error["request_id"] == "req-1234"


def test_no_server_is_exit_code_6_and_says_how_to_start_one(cli, nobody):
    result = cli("run", "list", "--server", nobody)

    assert result.code == 6
    assert f"no control plane answers at {nobody} (connection refused); start one with `tunesmith up`" in result.err


@pytest.mark.parametrize(("state", "code"), [("SUCCEEDED", 0), ("FAILED", 7), ("CANCELLED", 8)])
def test_commands_that_follow_a_run_end_with_its_exit_class(cli, fake, state, code):
    fake.add_run(state, failure=run_pb2.RunFailure(reason="OUT_OF_MEMORY", message="reduce batch_size from 8 to 4"))
    fake.state.log_lines = ["hello"]
    fake.state.losses = [1.0]

    assert cli("run", "watch", RUN).code == code
    assert cli("run", "logs", "-f", RUN).code == code
    assert cli("run", "metrics", "-f", RUN).code == code


def test_a_failed_run_tells_reason_remedy_and_the_last_lines_of_stderr(cli, fake):
    failure = run_pb2.RunFailure(reason="OUT_OF_MEMORY", message="reduce batch_size from 8 to 4", stderr_tail="a\nb")
    fake.add_run("FAILED", failure=failure)

    result = cli("run", "watch", RUN)

    assert "  | b\nerror[OUT_OF_MEMORY]: reduce batch_size from 8 to 4\n" in result.err


def test_a_bug_is_one_line_and_its_traceback_needs_debug(cli, fake, monkeypatch):
    def broken(*_, **__):
        raise KeyError("surprise")

    fake.add_run("SUCCEEDED")
    monkeypatch.setattr(run_commands, "show_list", broken)

    quiet, loud = cli("run", "list"), cli("run", "list", "--debug")

    assert quiet.code == loud.code == 1
    assert quiet.err == (
        "error[INTERNAL]: a bug in Tunesmith: KeyError: 'surprise'; run the command again with --debug and report what "
        "it prints\n"
    )
    assert "Traceback" in loud.err


def test_a_wrong_command_line_is_exit_code_2(cli):
    assert cli("run", "list", "--state", "flying").code == 2
    assert cli("run", "list", "--server", "nowhere").code == 2
    assert cli("run", "logs", "-f", "--tail", "3", RUN).code == 2


def test_a_missing_file_is_exit_code_2(cli, tmp_path):
    assert cli("run", "submit", str(tmp_path / "no.yaml")).code == 2


def test_ctrl_c_while_attached_leaves_the_run_alone_and_says_how_to_come_back(cli, fake, monkeypatch):
    from services.cli import attach

    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(attach, "follow", interrupted)
    fake.add_run("RUNNING")

    result = cli("run", "watch", RUN)

    assert result.code == 130
    assert f"tunesmith run watch {RUN}" in result.err
    assert f"tunesmith run cancel {RUN}" in result.err
