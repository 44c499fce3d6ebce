"""`tunesmith`: the one program. Parses, runs, and turns whatever happened into a sentence and an exit code."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Sequence

import click

from services.cli.commands import LazyGroup, client_options
from services.cli.exit_codes import ExitCode
from services.cli.session import Session
from trainer_node.openmp import let_waiting_threads_sleep

MEMBERS = {
    "demo": ("services.cli.demo:demo", "Play, rate, train and listen: the whole loop, in three minutes."),
    "up": ("services.cli.up:up", "Run everything on this machine: Postgres, control plane, one trainer node."),
    "experiment": ("services.cli.experiment:experiment", "Group runs: a question, its data, its settings."),
    "dataset": ("services.cli.dataset:dataset", "Import or rate clips and freeze versions of them."),
    "run": ("services.cli.run:run", "Submit, watch, cancel and resume trainings."),
    "adapter": ("services.cli.adapter:adapter", "List, label and pull what runs have trained."),
    "node": ("services.cli.node:node", "Run a trainer node, or list those that are there."),
    "control-plane": ("services.cli.up:control_plane", "Run the control plane alone."),
    "train": ("services.cli.train:train", "Train in the foreground, without a control plane."),
    "lm": ("services.cli.lm:lm", "Make a small language model from text, and try it."),
    "model": ("services.cli.model:model", "List, download and label language models; make base models."),
    "completion": ("services.cli.completion:completion", "Print the completion script of a shell."),
    "version": ("services.cli.version:version", "Print the version, and the server's."),
}

HELP = """Tune text-to-music models to what people like.

    tunesmith demo        # try it: no model, no data, no server needed

Ids may be shortened while they stay unique; names work too. Exit codes: 0 done, 2 usage or settings, 3 not found,
4 wrong state, 6 no server, 7 run failed, 8 run cancelled, 9 preflight, 124 timeout, 130 Ctrl-C.
"""

cli = LazyGroup(
    "tunesmith",
    members=MEMBERS,
    help=HELP.replace("    tunesmith demo", "\b\n    tunesmith demo"),
    params=client_options(env=True),
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
)


def main(args: Sequence[str] | None = None) -> int:
    """Run a command line; returns the exit code."""
    os.environ.setdefault("GRPC_VERBOSITY", "ERROR")  # gRPC writes GOAWAY and the like to stderr otherwise
    let_waiting_threads_sleep()
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a terminal that cannot show a character is no reason to end
    session = Session()
    try:
        code = cli.main(args, prog_name="tunesmith", standalone_mode=False, obj=session)
        sys.stdout.flush()
        return int(code or ExitCode.OK)
    except (KeyboardInterrupt, click.Abort):
        return ExitCode.INTERRUPT
    except BrokenPipeError:
        # The reader has what it wanted. Python would complain again when it flushes stdout at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return ExitCode.OK
    except Exception as error:  # the last boundary: told, never swallowed
        return _told(error, session)


def _told(error: Exception, session: Session) -> ExitCode:
    from services.cli import failures

    if session.debug and not isinstance(error, click.ClickException):
        failures.show_traceback(error)
    failure = failures.describe(error, session)
    failures.show(failure, session)
    return failure.exit_code


if __name__ == "__main__":
    sys.exit(main())
