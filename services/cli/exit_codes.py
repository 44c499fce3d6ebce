"""What the exit code of a command says: one table for all of them.

Scripts rely on these numbers; they are documented in docs/reference/exit-codes.md and never change their meaning.
"""

from __future__ import annotations

from enum import IntEnum


class ExitCode(IntEnum):
    """Exit codes of `tunesmith`."""

    OK = 0
    BUG = 1
    USAGE = 2
    NOT_FOUND = 3
    CONFLICT = 4
    AUTH = 5
    UNREACHABLE = 6
    RUN_FAILED = 7
    RUN_CANCELLED = 8
    PREFLIGHT_FAILED = 9
    TIMEOUT = 124
    INTERRUPT = 130


MEANINGS = {
    ExitCode.OK: "it was done",
    ExitCode.BUG: "a bug in Tunesmith",
    ExitCode.USAGE: "the command, a setting or a file is not right",
    ExitCode.NOT_FOUND: "no such run, data set, …",
    ExitCode.CONFLICT: "not in this state, or the name is taken",
    ExitCode.AUTH: "not allowed",
    ExitCode.UNREACHABLE: "no control plane answers",
    ExitCode.RUN_FAILED: "the run failed",
    ExitCode.RUN_CANCELLED: "the run was cancelled",
    ExitCode.PREFLIGHT_FAILED: "the machine lacks what the work needs; nothing was begun",
    ExitCode.TIMEOUT: "--timeout ran out",
    ExitCode.INTERRUPT: "Ctrl-C",
}

# By gRPC code; a reason of BY_REASON stands above it.
BY_CODE = {
    "INVALID_ARGUMENT": ExitCode.USAGE,
    "OUT_OF_RANGE": ExitCode.USAGE,
    "NOT_FOUND": ExitCode.NOT_FOUND,
    "ALREADY_EXISTS": ExitCode.CONFLICT,
    "FAILED_PRECONDITION": ExitCode.CONFLICT,
    "ABORTED": ExitCode.CONFLICT,
    "RESOURCE_EXHAUSTED": ExitCode.CONFLICT,
    "UNIMPLEMENTED": ExitCode.CONFLICT,
    "DATA_LOSS": ExitCode.CONFLICT,
    "UNAUTHENTICATED": ExitCode.AUTH,
    "PERMISSION_DENIED": ExitCode.AUTH,
    "UNAVAILABLE": ExitCode.UNREACHABLE,
    "CANCELLED": ExitCode.UNREACHABLE,
    "DEADLINE_EXCEEDED": ExitCode.TIMEOUT,
}

# Reasons that the command line meets without a gRPC code (its own, and those of a training in the foreground), and
# those that mean something else than their code.
BY_REASON = {
    "USAGE": ExitCode.USAGE,
    "FILE_ERROR": ExitCode.USAGE,
    "CONFIG_INVALID": ExitCode.USAGE,
    "INVALID_FIELD": ExitCode.USAGE,
    "SAMPLE_INVALID": ExitCode.USAGE,
    "DATA_INVALID": ExitCode.USAGE,
    "EXPORT_REFUSED": ExitCode.USAGE,
    "CHECKPOINT_REFUSED": ExitCode.USAGE,
    "SCORER_FAILED": ExitCode.USAGE,
    "BASE_MODEL_MISMATCH": ExitCode.CONFLICT,
    "FOLDER_NOT_EMPTY": ExitCode.CONFLICT,
    "FOLDER_IN_USE": ExitCode.CONFLICT,
    "TRAINING_EXISTS": ExitCode.CONFLICT,
    "CLIP_UNUSABLE": ExitCode.CONFLICT,
    "UNREACHABLE": ExitCode.UNREACHABLE,
    "BASE_MODEL_UNAVAILABLE": ExitCode.PREFLIGHT_FAILED,
    "TRAINING_KIND_UNAVAILABLE": ExitCode.PREFLIGHT_FAILED,
    "DISK_FULL": ExitCode.PREFLIGHT_FAILED,
    "NOT_INSTALLED": ExitCode.PREFLIGHT_FAILED,
    "NO_PLAYER": ExitCode.PREFLIGHT_FAILED,
    "START_ADAPTER_UNSUITABLE": ExitCode.CONFLICT,
    "RUN_FAILED": ExitCode.RUN_FAILED,
    "RUN_CANCELLED": ExitCode.RUN_CANCELLED,
    "OUT_OF_MEMORY": ExitCode.RUN_FAILED,
    "LOSS_NOT_FINITE": ExitCode.RUN_FAILED,
    "CHECKPOINT_CORRUPT": ExitCode.RUN_FAILED,
    "PROCESS_DIED": ExitCode.RUN_FAILED,
    "TRAINING_CRASHED": ExitCode.RUN_FAILED,
    "INPUTS_UNAVAILABLE": ExitCode.RUN_FAILED,
    "NODE_LOST": ExitCode.RUN_FAILED,
}


def exit_code_of(reason: str, code: str = "") -> ExitCode:
    """The exit code of a failure with this reason and gRPC code; BUG for one that nobody foresaw."""
    return BY_REASON.get(reason) or BY_CODE.get(code) or ExitCode.BUG
