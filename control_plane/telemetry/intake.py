"""Intake: events from a node, checked and made storable. Pure.

A node is trusted to number its events, and with nothing else: what is malformed becomes a loss with its reason, and
what Postgres cannot hold in a text (NUL, half a surrogate pair) is replaced. Neither stops what stands beside it.
"""

from __future__ import annotations

from collections.abc import Sequence

from control_plane.db.connection import storable
from control_plane.telemetry.model import (
    MAX_LINE_BYTES,
    MAX_NAME_CHARACTERS,
    MAX_NAMES,
    MAX_STEP,
    MAX_TEXT_BYTES,
    MAX_TIME_US,
    Intake,
    LogRow,
    Loss,
    MetricBlock,
)
from tunesmith import spec
from tunesmith.v1 import job_event_pb2


def take_in(events: Sequence[job_event_pb2.JobEvent], *, rank: int) -> Intake:
    """Sort the events of one job by where they are stored. rank: the job's; metrics are rank 0's to tell."""
    intake = Intake()
    for event in events:
        intake.last_seq = event.seq
        match event.WhichOneof("event"):
            case "metrics":
                _take_metrics(intake, event.seq, event.metrics, rank)
            case "logs":
                _take_logs(intake, event.seq, event.logs)
            case "checkpoint_saved":
                _take_checkpoint(intake, event.seq, event.checkpoint_saved)
            case "preview_saved":
                _take_preview(intake, event.seq, event.preview_saved)
            case "started":
                intake.started = _started(event.started)
            case "finished":
                intake.finished = event.finished
            case _:  # a newer node's event, or an empty one
                intake.losses.append(Loss(event.seq, 1, "an event of a kind that this program does not know"))
    return intake


def _started(started: job_event_pb2.JobStarted) -> job_event_pb2.JobStarted:
    kept = job_event_pb2.JobStarted()
    kept.CopyFrom(started)
    kept.device = storable(started.device)[:MAX_NAME_CHARACTERS]
    for field in ("total_steps", "total_epochs", "resumed_step"):
        setattr(kept, field, max(getattr(kept, field), 0))
    return kept


def _take_metrics(intake: Intake, seq: int, batch: job_event_pb2.MetricBatch, rank: int) -> None:
    names = tuple(storable(name) for name in batch.names)
    problem = _problem(batch, names) if rank == 0 else "metrics of a rank other than 0"
    if problem:
        intake.losses.append(Loss(seq, max(len(batch.values), 1), problem))
        return
    out_of_range = sum(not 0 <= step <= MAX_STEP for step in batch.steps)
    if out_of_range:
        intake.losses.append(Loss(seq, out_of_range * len(names), f"a step below 0 or above {MAX_STEP}"))
    intake.blocks.append(MetricBlock(seq, names, list(batch.steps), list(batch.times_us), list(batch.values)))


def _problem(batch: job_event_pb2.MetricBatch, names: tuple[str, ...]) -> str | None:
    """Why none of a batch's rows can be told from another, or None."""
    rows = len(batch.steps)
    if not names:
        return "a batch without names"
    if len(names) > MAX_NAMES:
        return f"{len(names)} names in one batch, at most {MAX_NAMES} are kept of a run"
    if len(batch.times_us) != rows or len(batch.values) != rows * len(names):
        counts = f"{rows} steps, {len(batch.times_us)} times, {len(batch.values)} values of {len(names)} metrics"
        return f"columns of unequal length: {counts}"
    if not all(0 < len(name) <= MAX_NAME_CHARACTERS for name in names):
        return f"a name that is empty or longer than {MAX_NAME_CHARACTERS} characters"
    return "a name that occurs twice" if len(set(names)) != len(names) else None


def _take_logs(intake: Intake, seq: int, batch: job_event_pb2.LogBatch) -> None:
    time_us = min(max(batch.time_us, 0), MAX_TIME_US)
    stream = batch.stream if batch.stream in job_event_pb2.LogStream.values() else 0
    lines = [_cut(storable(text), MAX_LINE_BYTES) for text in batch.lines]  # the node cuts there as well
    intake.lines += [LogRow(seq, at, time_us, stream, line) for at, line in enumerate(lines)]


def _cut(text: str, max_bytes: int) -> str:
    if len(text) * 4 <= max_bytes:
        return text
    return text.encode()[:max_bytes].decode(errors="ignore")


def _take_checkpoint(intake: Intake, seq: int, saved: job_event_pb2.CheckpointSaved) -> None:
    problems = spec.check(saved)
    if problems or saved.step < 0:
        intake.losses.append(
            Loss(seq, 1, f"a checkpoint that breaks the contract: {_first(problems, 'a step below 0')}")
        )
        return
    intake.checkpoints.append((seq, saved))


def _take_preview(intake: Intake, seq: int, saved: job_event_pb2.PreviewSaved) -> None:
    problems = spec.check(saved)
    if problems or saved.step < 0 or saved.prompt_index < 0 or saved.HasField("file") == bool(saved.text):
        what = _first(problems, "a number below 0, or not one of file and text")
        intake.losses.append(Loss(seq, 1, f"a preview that breaks the contract: {what}"))
        return
    kept = job_event_pb2.PreviewSaved()
    kept.CopyFrom(saved)
    kept.prompt = storable(saved.prompt)
    if saved.text:
        kept.text = _cut(storable(saved.text), MAX_TEXT_BYTES)
        kept.duration_s = 0
    intake.previews.append((seq, kept))


def _first(problems: Sequence[object], otherwise: str) -> str:
    return storable(str(problems[0])) if problems else otherwise
