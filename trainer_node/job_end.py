"""Writing the end of a job whose process could not: it was killed, or never came to be.

Runs when the process and its whole group are gone; then the service is the spool's writer. What the process had printed
and not yet reported is reported first, so that no line is lost.
"""

from __future__ import annotations

import signal
from dataclasses import dataclass, field

from trainer_node.errors import DiskFull, OutOfMemory, ProcessDied
from trainer_node.job_folder import JobFolder
from trainer_node.log_lines import follow_outputs, tail
from trainer_node.memory_limit import oom_kills, remedy
from trainer_node.outcome import failed
from trainer_node.process_watch import ChildProcess
from trainer_node.spool import SpoolReader, SpoolWriter
from tunesmith.errors import TunesmithError
from tunesmith.v1 import job_event_pb2, job_spec_pb2


@dataclass(frozen=True, kw_only=True)
class Death:
    """What the service knows of how a job came to its end.

    child: None where there never was a process; then `refusal` says why, unless a stop was wished.
    exit_code: None where it is not known: only a parent learns it.
    """

    child: ChildProcess | None
    exit_code: int | None
    refusal: TunesmithError | None
    stop_wished: bool


def write_end(folder: JobFolder, death: Death) -> None:
    """Make sure that the job's last event is its JobFinished. Does nothing if the process wrote it itself.

    Raises SpoolBusy while something still writes, DiskFull where not even the end finds room.
    """
    spool = SpoolWriter(folder.spool)
    history = read_history(SpoolReader(folder.spool))
    if history.finished:
        spool.close()
        return
    try:
        for follower in follow_outputs(folder.stdout, folder.stderr, history.log_offsets):
            for batch in follower.read(final=True):
                spool.append(job_event_pb2.JobEvent(logs=batch))
    except DiskFull:
        pass  # the end matters more; finish() makes room for it, and the lines stay in their files
    if death.stop_wished:
        cancelled = job_event_pb2.JobCancelled(checkpoint_step=history.checkpoint_step)
        end = job_event_pb2.JobFinished(cancelled=cancelled)
    elif death.refusal is not None:
        end = failed(death.refusal, exit_code=0)
    else:
        error = cause_of_death(death, folder.job().spec)
        end = failed(error, exit_code=death.exit_code or 0, stderr_tail=tail(folder.stderr))
    spool.finish(job_event_pb2.JobEvent(finished=end))


@dataclass
class History:
    """What the spool tells: how far the output files were read, the last checkpoint, whether the job has ended."""

    log_offsets: dict[int, int] = field(default_factory=dict)
    checkpoint_step: int = 0
    finished: bool = False


def read_history(spool: SpoolReader) -> History:
    """Read a spool from its beginning."""
    history, after = History(), 0
    while events := spool.read(after):
        for event in events:
            if event.HasField("logs"):
                history.log_offsets[event.logs.stream] = event.logs.end_offset
            elif event.HasField("checkpoint_saved"):
                history.checkpoint_step = event.checkpoint_saved.step
            history.finished = event.HasField("finished")
        after = events[-1].seq
    spool.close()
    return history


def cause_of_death(death: Death, spec: job_spec_pb2.JobSpec) -> TunesmithError:
    """Why a process ended without a word. A kill for memory leaves a trace only in the cgroup's counter."""
    child, exit_code = death.child, death.exit_code
    killed = exit_code in (None, -signal.SIGKILL)
    if killed and child and oom_kills(child.oom_file) > child.oom_kills:
        return OutOfMemory(f"the machine ran out of memory and ended the training; {remedy(spec)}")
    where = "the last lines of stderr may say why"
    if exit_code is None:
        what = "the training process ended while the node service was not its parent, so its exit code is not known"
        return ProcessDied(f"{what}; {where}")
    if exit_code >= 0:
        return ProcessDied(f"the training process left with exit code {exit_code} before it was done; {where}")
    name = signal.Signals(-exit_code).name if -exit_code in set(signal.Signals) else "unknown"
    what = f"the training process was killed by signal {-exit_code} ({name})"
    if killed:
        return ProcessDied(f"{what}, by a person or for want of memory; in the latter case {remedy(spec)}")
    return ProcessDied(f"{what}; {where}")
