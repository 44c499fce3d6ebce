from __future__ import annotations

import subprocess
import sys

import click
import pytest

from services.cli.exit_codes import exit_code_of
from services.cli.main import cli as root

HEAVY = ("torch", "transformers", "grpc", "rich", "psycopg", "numpy", "protovalidate", "services.main_local")


def commands(group: click.Group, path: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    ctx = click.Context(group)
    found = []
    for name in group.list_commands(ctx):
        command = group.get_command(ctx, name)
        found.append((*path, name))
        if isinstance(command, click.Group):
            found += commands(command, (*path, name))
    return found


@pytest.mark.parametrize(
    "args",
    [
        (),
        ("run",),
        ("run", "list"),
        ("node",),
        ("up",),
        ("train", "dpo"),
        ("run", "submit"),
        ("dataset", "rate"),
        ("model", "make-tiny"),
        ("model", "train-micro"),
        ("lm",),
        ("lm", "train"),
        ("lm", "sample"),
        ("lm", "tokenizer", "inspect"),
        ("adapter", "evaluate"),
    ],
)
def test_help_imports_nothing_heavy(args):
    program = (
        "import sys; from services.cli.main import main; main(sys.argv[1:]); "
        f"print('HEAVY', sorted(set(sys.modules) & set({HEAVY!r})))"
    )

    done = subprocess.run([sys.executable, "-c", program, *args, "--help"], capture_output=True, text=True, check=True)

    assert "Usage: tunesmith" in done.stdout
    assert done.stdout.splitlines()[-1] == "HEAVY []"


def test_every_command_has_help_that_begins_with_a_sentence(cli):
    for path in commands(root):
        result = cli(*path, "--help")

        assert result.code == 0, path
        assert result.out.split("\n")[2].strip()[:1].isupper(), path


def test_every_command_takes_the_global_options(cli):
    for path in [path for path in commands(root) if path not in {("completion",), ("demo",)}]:
        help_text = cli(*path, "--help").out

        assert "--output-format" in help_text or "Commands:" in help_text, path


def test_every_setting_of_the_contract_is_a_flag_with_its_comment_and_default(cli):
    help_text = " ".join(cli("train", "supervised", "--help").out.split())

    assert (
        "--learning-rate X Highest learning rate, reached after the warm-up; in (0, 1]. [default: 0.0002]" in help_text
    )
    assert "--precision [auto|fp32|bf16]" in help_text
    assert "--preview-prompts TEXT" in help_text


def test_a_flag_that_kinds_share_tells_every_default_and_another_one_whose_setting_it_is(cli):
    help_text = " ".join(cli("run", "submit", "--help").out.split())

    assert "[default: 0.0002; 5e-05 for dpo and ranking]" in help_text
    assert "--beta X dpo: Strength of the pull" in help_text
    assert "[default: 0.02; 10 with loss=sigmoid_norm or loss=ipo]" in help_text
    assert "--loss [sigmoid|sigmoid_norm|ipo|hinge|robust|margin|plackett_luce]" in help_text
    assert "--start-adapter-id" not in help_text  # --start-adapter takes names


@pytest.mark.parametrize("kind", ["supervised", "dpo", "ranking"])
def test_a_training_tells_the_exit_code_of_an_unsuitable_adapter_to_start_from(cli, kind):
    help_text = " ".join(cli("train", kind, "--help").out.split())

    code = int(exit_code_of("START_ADAPTER_UNSUITABLE", "FAILED_PRECONDITION"))
    assert f", {code} the adapter to start from is unsuitable," in help_text


def test_a_misspelt_command_or_option_is_answered_with_a_suggestion(cli):
    assert "Did you mean 'run'?" in cli("rum", "list").err
    assert "Did you mean 'list'?" in cli("run", "lst").err
    assert "'--learning-rate'" in cli("run", "submit", "--lerning-rate", "1").err
