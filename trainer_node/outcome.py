"""How a training ends, as the event that says so: what an engine returns or raises becomes a JobFinished.

Used by the child process of a node and by a training in the foreground: a failure reads the same in both.
"""

from __future__ import annotations

import errno
import os
import sys
import traceback
from collections.abc import Callable
from contextlib import suppress
from typing import NoReturn

from trainer_node.errors import DiskFull, OutOfMemory, TrainingCrashed
from trainer_node.memory_limit import remedy
from trainer_node.preflight import NO_ROOM
from trainer_node.stop_signal import Stopped
from trainer_node.training import Outcome
from tunesmith.errors import TunesmithError
from tunesmith.v1 import job_event_pb2, job_spec_pb2

MAX_MESSAGE = 2000


def ended(run: Callable[[], Outcome], spec: job_spec_pb2.JobSpec) -> job_event_pb2.JobFinished:
    """The end that `run` comes to. What went wrong is also told on standard error, where its tail is taken from."""
    try:
        outcome = run()
    except Stopped:
        return job_event_pb2.JobFinished(cancelled=job_event_pb2.JobCancelled())
    except TunesmithError as error:
        with suppress(OSError):  # standard error is a file, and its disk may be what is full
            print(f"{error.reason}: {error.message}", file=sys.stderr)
        return failed(error)
    except (Exception, SystemExit) as error:  # reported as the job's end, with the whole traceback in its log
        with suppress(OSError):
            traceback.print_exc()
        return failed(_as_failure(error, spec))
    if isinstance(outcome, job_event_pb2.JobSucceeded):
        return job_event_pb2.JobFinished(succeeded=outcome)
    return job_event_pb2.JobFinished(cancelled=outcome)


def failed(error: TunesmithError, *, exit_code: int = 1, stderr_tail: str = "") -> job_event_pb2.JobFinished:
    """The end of a job that failed with `error`."""
    failure = job_event_pb2.JobFailed(
        reason=error.reason, message=error.message, exit_code=exit_code, stderr_tail=stderr_tail
    )
    return job_event_pb2.JobFinished(failed=failure)


def exit_code(end: job_event_pb2.JobFinished) -> int:
    """0 for success, 130 for a stop on request, 1 for a failure."""
    return {"succeeded": 0, "cancelled": 130}.get(end.WhichOneof("outcome") or "", 1)


def leave(code: int) -> NoReturn:
    """End this process at once: what it has made is durable, and no thread or worker that a library left behind may
    hold it up, or bring it down: gloo's threads do so now and then where the interpreter is torn down under them."""
    flush()
    os._exit(code)


def flush() -> None:
    """Bring what was printed into the files behind it, as far as their disk has room."""
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError):
            stream.flush()


def _as_failure(error: BaseException, spec: job_spec_pb2.JobSpec) -> TunesmithError:
    if isinstance(error, MemoryError) or (isinstance(error, OSError) and error.errno == errno.ENOMEM):
        return OutOfMemory(f"the machine has no memory left; {remedy(spec)}")
    if isinstance(error, OSError) and error.errno in NO_ROOM:
        where = f" ({error.filename})" if error.filename else ""
        return DiskFull(f"there is no room left on the disk{where}; free some space there, then resume the run")
    text = " ".join(str(error).split())
    what = f"{type(error).__name__}: {text}" if text else type(error).__name__
    if len(what) > MAX_MESSAGE:
        what = what[:MAX_MESSAGE] + "…"
    return TrainingCrashed(f"{what}; the log has the whole traceback")
