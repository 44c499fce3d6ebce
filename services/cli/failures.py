"""How a failure is told: what happened, which fields, what to do; never a traceback.

    error[RUN_NOT_FOUND]: no run run_01J8; `tunesmith run list` shows what there is

With -o json or jsonl the same goes to stderr as one JSON object, so that stdout holds answers only.
"""

from __future__ import annotations

import errno
import json
import sys
import traceback
from collections.abc import Sequence
from dataclasses import dataclass, field

import click

from services.cli.exit_codes import ExitCode, exit_code_of
from services.cli.session import Session
from services.cli.terminal import escape, wants_color
from tunesmith.client.errors import ApiError
from tunesmith.errors import FieldProblem, TunesmithError


@dataclass(frozen=True)
class Failure:
    """A failure as it is shown. hints: further lines for people."""

    reason: str
    message: str
    exit_code: ExitCode
    fields: Sequence[FieldProblem] = ()
    metadata: dict[str, str] = field(default_factory=dict)
    request_id: str = ""
    hints: Sequence[str] = ()


def describe(error: BaseException, session: Session) -> Failure:
    """What to tell about an error that ended a command."""
    if isinstance(error, ApiError):
        code = exit_code_of(error.reason, error.code)
        return Failure(error.reason, error.message, code, error.fields, error.metadata, error.request_id)
    if isinstance(error, TunesmithError):
        code = exit_code_of(error.reason)
        return Failure(error.reason, error.message, code, error.fields, error.metadata)
    if isinstance(error, click.ClickException):
        usage = isinstance(error, click.UsageError) and error.ctx is not None
        hints = [f"try `{error.ctx.command_path} --help`"] if usage else []  # type: ignore[attr-defined]  # a UsageError's
        return Failure("USAGE", error.format_message(), ExitCode.USAGE, hints=hints)
    if isinstance(error, OSError):
        return _of_file(error)
    # ConfigError of services.settings and CannotStart of the control plane, which are not imported for this
    start_code = getattr(error, "exit_code", None)
    if start_code in (ExitCode.USAGE, ExitCode.PREFLIGHT_FAILED):
        reason = "CONFIG_INVALID" if start_code == ExitCode.USAGE else "CANNOT_START"
        return Failure(reason, str(error), ExitCode(start_code))
    hint = "" if session.debug else "; run the command again with --debug and report what it prints"
    return Failure("INTERNAL", f"a bug in Tunesmith: {type(error).__name__}: {error}{hint}", ExitCode.BUG)


def _of_file(error: OSError) -> Failure:
    where = f"{error.filename}: " if error.filename else ""
    if error.errno == errno.ENOSPC:
        message = f"{where}no room on the disk; free some and run the command again"
        return Failure("DISK_FULL", message, ExitCode.PREFLIGHT_FAILED)
    message = f"{where}{error.strerror or error}; check the path and its permissions"
    return Failure("FILE_ERROR", message, ExitCode.USAGE)


def show(failure: Failure, session: Session) -> None:
    """Write a failure to stderr, in the format that the command was asked for."""
    if session.out.format != "table":
        print(json.dumps({"error": as_dict(failure)}), file=sys.stderr, flush=True)
        return
    color = wants_color(sys.stderr, session.out.color)
    head = f"error[{failure.reason}]:"
    typed = session.typed
    print(click.style(head, fg="red", bold=True) if color else head, typed(_message(failure)), file=sys.stderr)
    for problem in failure.fields:
        print(f"  {escape(typed(str(problem)))}", file=sys.stderr)
    if failure.request_id:
        print(f"  request id {escape(failure.request_id)}", file=sys.stderr)
    for hint in failure.hints:
        print(f"  {typed(hint)}", file=sys.stderr)
    sys.stderr.flush()


def _message(failure: Failure) -> str:
    """The message without the fields that are listed below it; where nothing else is in it, their number."""
    message = failure.message
    if failure.fields and str(failure.fields[0]) in message:
        count = len(failure.fields)
        counted = "1 field is not right" if count == 1 else f"{count} fields are not right"
        message = message.partition(str(failure.fields[0]))[0].rstrip() or counted
    return escape(message, keep="\n").replace("\n", "\n  ")


def as_dict(failure: Failure) -> dict[str, object]:
    """The shape of an error in JSON."""
    return {
        "reason": failure.reason,
        "message": failure.message,
        "fields": [{"path": problem.path, "what": problem.what} for problem in failure.fields],
        "metadata": failure.metadata,
        "request_id": failure.request_id,
        "exit_code": int(failure.exit_code),
    }


def show_traceback(error: BaseException) -> None:
    """For --debug."""
    traceback.print_exception(error)
