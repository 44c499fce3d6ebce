"""Runs and what belongs to them as messages."""

from __future__ import annotations

from control_plane.runs.model import Checkpoint, Preview, Run, RunEvent, RunState
from services.convert.times import timestamp
from tunesmith.v1 import run_pb2

_STATES = {
    RunState.QUEUED: run_pb2.RUN_STATE_QUEUED,
    RunState.STARTING: run_pb2.RUN_STATE_STARTING,
    RunState.RUNNING: run_pb2.RUN_STATE_RUNNING,
    RunState.STOPPING: run_pb2.RUN_STATE_STOPPING,
    RunState.PAUSED: run_pb2.RUN_STATE_PAUSED,
    RunState.SUCCEEDED: run_pb2.RUN_STATE_SUCCEEDED,
    RunState.FAILED: run_pb2.RUN_STATE_FAILED,
    RunState.CANCELLED: run_pb2.RUN_STATE_CANCELLED,
}
_BY_MESSAGE = {message: state for state, message in _STATES.items()}


def state_message(state: RunState | None) -> run_pb2.RunState:
    """The state as the contract names it; None is UNSPECIFIED."""
    return run_pb2.RUN_STATE_UNSPECIFIED if state is None else _STATES[state]


def state_of(message: run_pb2.RunState) -> RunState | None:
    """The registry's state; None for UNSPECIFIED."""
    return _BY_MESSAGE.get(message)


def run_message(run: Run) -> run_pb2.Run:
    """The run as clients see it."""
    return run_pb2.Run(
        run_id=run.run_id,
        experiment_id=run.experiment_id,
        display_name=run.display_name,
        dataset_version_id=run.dataset_version_id or "",
        spec=run.spec,
        state=state_message(run.state),
        state_reason=run.state_reason,
        attempt=run.attempt,
        priority=run.priority,
        node_id=run.node_id or "",
        step=run.step,
        total_steps=run.total_steps,
        total_epochs=run.total_epochs,
        adapter_id=run.adapter_id or "",
        final_loss=run.final_loss,
        failure=run.failure,
        resumed_from_run_id=run.resumed_from_run_id or "",
        resumed_from_step=run.resumed_from_step,
        labels=run.labels,
        etag=run.etag,
        create_time=timestamp(run.create_time),
        start_time=timestamp(run.start_time),
        end_time=timestamp(run.end_time),
        model_id=run.model_id or "",
    )


def event_message(event: RunEvent) -> run_pb2.RunEvent:
    """The event as clients see it."""
    return run_pb2.RunEvent(
        revision=event.revision,
        time=timestamp(event.time),
        actor=event.actor,
        from_state=state_message(event.from_state),
        to_state=state_message(event.to_state),
        attempt=event.attempt,
        reason=event.reason,
    )


def checkpoint_message(checkpoint: Checkpoint) -> run_pb2.Checkpoint:
    """The checkpoint as clients and nodes see it."""
    return run_pb2.Checkpoint(
        run_id=checkpoint.run_id,
        attempt=checkpoint.attempt,
        step=checkpoint.step,
        epoch=checkpoint.epoch,
        eval_loss=checkpoint.eval_loss,
        best=checkpoint.best,
        files=checkpoint.files,
        create_time=timestamp(checkpoint.create_time),
    )


def preview_message(preview: Preview) -> run_pb2.Preview:
    """The preview as clients see it."""
    return run_pb2.Preview(
        run_id=preview.run_id,
        attempt=preview.attempt,
        step=preview.step,
        prompt_index=preview.prompt_index,
        prompt=preview.prompt,
        seed=preview.seed,
        duration_s=preview.duration_s,
        file=preview.file,
        create_time=timestamp(preview.create_time),
        text=preview.text,
    )
