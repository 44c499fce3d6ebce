from __future__ import annotations

import os
import subprocess
import sys

import pytest

from tests.cli.plane_state import RUN
from tunesmith.v1 import experiment_pb2


def complete(words: str, **env: str) -> list[str]:
    """What bash is offered for the last of the words."""
    variables = {"_TUNESMITH_COMPLETE": "bash_complete", "COMP_WORDS": words, "COMP_CWORD": str(words.count(" "))}
    program = "import sys; from services.cli.main import main; sys.exit(main())"
    done = subprocess.run(
        [sys.executable, "-c", program], env=os.environ | variables | env, capture_output=True, text=True
    )
    assert done.stderr == ""
    return [line.partition(",")[2] for line in done.stdout.splitlines() if line]


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_each_shell_gets_its_script(cli, shell):
    result = cli("completion", shell)

    assert result.code == 0
    assert "_TUNESMITH_COMPLETE" in result.out


def test_commands_and_options_are_completed():
    assert "submit" in complete("tunesmith run su")
    assert "--learning-rate" in complete("tunesmith run submit --learn")


def test_live_ids_and_names_are_completed(fake):
    fake.add_run("RUNNING")
    fake.state.experiments.append(experiment_pb2.Experiment(experiment_id="exp_1", name="piano"))
    fake.add_adapter(2)

    assert complete("tunesmith run watch run_") == [RUN]
    assert complete("tunesmith experiment get p") == ["piano"]
    assert complete("tunesmith adapter pull ") == ["piano@2"]
    assert complete(f"tunesmith --server {fake.address} run get ", TUNESMITH_SERVER="127.0.0.1:1") == [RUN]


def test_without_a_server_completion_is_silent(nobody):
    assert complete("tunesmith run watch run_", TUNESMITH_SERVER=nobody) == []
