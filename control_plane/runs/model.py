"""Runs, their attempts and jobs, and the table of legal moves.

A run is what was asked for, an attempt one try of it, a job an attempt's share on one node. The attempt's number is the
fence: a job whose attempt is not its run's current one writes nothing any more. Terminal states are final.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from control_plane.datasets.model import Form
from tunesmith.v1 import blob_pb2, job_event_pb2, job_spec_pb2, run_pb2


class RunState(StrEnum):
    """Where a run stands."""

    QUEUED = "queued"
    STARTING = "starting"
    RUNNING = "running"
    STOPPING = "stopping"
    PAUSED = "paused"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def terminal(self) -> bool:
        """Whether the run has ended for good."""
        return self in (RunState.SUCCEEDED, RunState.FAILED, RunState.CANCELLED)


class AttemptState(StrEnum):
    """Where an attempt stands. UNREACHABLE is a node out of sight: no failure by itself."""

    LEASED = "leased"
    PREPARING = "preparing"
    TRAINING = "training"
    UNREACHABLE = "unreachable"
    ENDED = "ended"


class EndReason(StrEnum):
    """Why an attempt ended."""

    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"
    INTERRUPTED = "interrupted"  # its process was told to stop, and not by us: a machine that goes down does that
    NODE_LOST = "node_lost"  # nothing was heard of its job for a whole lease
    GIVEN_BACK = "given_back"  # its node had no room for it


_S = RunState
MOVES: Mapping[RunState, frozenset[RunState]] = {
    _S.QUEUED: frozenset({_S.STARTING, _S.PAUSED, _S.CANCELLED}),
    _S.PAUSED: frozenset({_S.QUEUED, _S.CANCELLED}),
    # back to the queue: the node was lost, or had no room
    _S.STARTING: frozenset({_S.RUNNING, _S.STOPPING, _S.QUEUED, _S.FAILED, _S.CANCELLED}),
    _S.RUNNING: frozenset({_S.STOPPING, _S.QUEUED, _S.SUCCEEDED, _S.FAILED, _S.CANCELLED}),
    # a run that was asked to stop may still win the race; it never fails, whatever its process ended with
    _S.STOPPING: frozenset({_S.SUCCEEDED, _S.CANCELLED}),
    _S.SUCCEEDED: frozenset(),
    _S.FAILED: frozenset(),
    _S.CANCELLED: frozenset(),
}


class Leaves(StrEnum):
    """What comes of a run that has succeeded."""

    ADAPTER = "adapter"
    MODEL = "model"
    CLIPS = "clips"  # they are its previews; nothing is registered, and there is nothing to go on from


# What a kind of run takes; the first is what it gets where nobody names a version.
TAKES: Mapping[str, tuple[Form, ...]] = {
    "supervised": (Form.RATED_CLIPS,),
    "dpo": (Form.PAIRS,),
    "ranking": (Form.RANKED_LISTS, Form.PAIRS),
    "tiny_lm": (),
    "generate": (),
}
LEAVES: Mapping[str, Leaves] = {
    "supervised": Leaves.ADAPTER,
    "dpo": Leaves.ADAPTER,
    "ranking": Leaves.ADAPTER,
    "tiny_lm": Leaves.MODEL,
    "generate": Leaves.CLIPS,
}


class IllegalMove(Exception):
    """A bug: a run was about to make a move that the table forbids."""


def require_move(origin: RunState, target: RunState) -> None:
    """Raise IllegalMove unless a run may go from `origin` to `target`."""
    if target not in MOVES[origin]:
        raise IllegalMove(f"a run cannot go from {origin} to {target}")


@dataclass(frozen=True, kw_only=True)
class Run:
    """A row of `runs`, with the node of its current attempt. start_adapter_id: as its spec says, of generate the
    adapter that plays."""

    run_id: str
    experiment_id: str
    display_name: str
    dataset_version_id: str | None
    kind: str
    spec: job_spec_pb2.JobSpec
    state: RunState
    state_reason: str
    attempt: int
    lost_attempts: int
    priority: int
    step: int
    total_steps: int
    total_epochs: int
    adapter_id: str | None
    final_loss: float | None
    failure: run_pb2.RunFailure | None
    resumed_from_run_id: str | None
    resumed_from_step: int
    labels: dict[str, str]
    revision: int
    create_time: datetime
    start_time: datetime | None
    end_time: datetime | None
    node_id: str | None
    start_adapter_id: str | None
    model_id: str | None

    @property
    def etag(self) -> str:
        """Changes with every change of state."""
        return str(self.revision)

    @property
    def leaves(self) -> Leaves:
        """What comes of it with success."""
        return LEAVES[self.kind]

    @property
    def another_try(self) -> str:
        """What to do where it has failed: clips have no checkpoint, and come out the same when they are played anew."""
        return "create the run again" if self.leaves is Leaves.CLIPS else "resume the run"


@dataclass(frozen=True, kw_only=True)
class RunEvent:
    """A row of `run_events`: a change of state."""

    run_id: str
    revision: int
    time: datetime
    actor: str
    from_state: RunState | None
    to_state: RunState
    attempt: int
    reason: str

    @property
    def key(self) -> str:
        """Its place in the list of a run's events."""
        return str(self.revision)


@dataclass(frozen=True, kw_only=True)
class Job:
    """A row of `jobs`. started: the node has acknowledged it; last_seq: events up to here are stored."""

    job_id: str
    run_id: str
    attempt: int
    rank: int
    node_id: str
    started: bool
    last_seq: int
    lease_until: datetime
    create_time: datetime
    end_time: datetime | None


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """A row of `checkpoints`: a committed checkpoint whose files are blobs of the control plane."""

    run_id: str
    attempt: int
    step: int
    epoch: float
    eval_loss: float | None
    best: bool
    files: tuple[blob_pb2.File, ...]
    create_time: datetime

    @property
    def key(self) -> str:
        """Its place in the list of a run's checkpoints."""
        return f"{self.step}/{self.attempt}"


@dataclass(frozen=True, kw_only=True)
class Preview:
    """A row of `previews`: what a run generated. A clip has a file; a text has none, and lasts 0 s.

    Of one step and prompt there may be several, each of its own seed.
    """

    run_id: str
    attempt: int
    step: int
    prompt_index: int
    prompt: str
    seed: int
    duration_s: float
    file: blob_pb2.File | None
    text: str
    create_time: datetime

    @property
    def key(self) -> str:
        """Its place in the list of a run's previews."""
        return f"{self.step}/{self.prompt_index}/{self.seed}/{self.attempt}"


@dataclass(frozen=True, kw_only=True)
class Artefacts:
    """What a successful training left, read from its files before the run is finished."""

    training_config: job_event_pb2.TrainingConfig
    report: job_event_pb2.TrainingReport
    report_markdown: str
