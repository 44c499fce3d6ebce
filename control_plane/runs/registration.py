"""What a job left is registered as its kind wants it: an adapter, of tiny_lm a model, of generate nothing at all."""

from __future__ import annotations

from dataclasses import dataclass

from control_plane.adapters import store as adapters
from control_plane.db.connection import Connection
from control_plane.ids import new_id
from control_plane.models import store as models
from control_plane.runs import store
from control_plane.runs.model import Artefacts, Job, Leaves, Run
from tunesmith.adapter_shape import settings_of
from tunesmith.v1 import job_event_pb2

_WORDS = {Leaves.ADAPTER: "an adapter", Leaves.MODEL: "a model", Leaves.CLIPS: "clips"}


@dataclass(frozen=True, kw_only=True)
class Registered:
    """What a run's row says of what came of it; all None for clips, which are its previews."""

    adapter_id: str | None = None
    model_id: str | None = None
    final_loss: float | None = None


def left_by(succeeded: job_event_pb2.JobSucceeded) -> list[Leaves]:
    """What a job says that it has left; a sound one has left exactly one thing."""
    told = {
        Leaves.ADAPTER: bool(succeeded.adapter_files),
        Leaves.MODEL: bool(succeeded.model_files),
        Leaves.CLIPS: succeeded.clip_count > 0,
    }
    return [each for each, is_told in told.items() if is_told]


async def of_its_kind(
    conn: Connection, run: Run, job: Job, finished: job_event_pb2.JobFinished
) -> job_event_pb2.JobFinished:
    """The end as it was told; a failure where the job left something else than its kind does, or fewer clips than
    were asked for, or than it says."""
    if not finished.HasField("succeeded"):
        return finished
    left, wanted = left_by(finished.succeeded), _WORDS[run.leaves]
    if left != [run.leaves]:
        words = " and ".join(_WORDS[each] for each in left) or "nothing"
        return _failed(f"it left {words}, and {run.kind} leaves {wanted}; update its node, then {run.another_try}")
    if run.leaves is Leaves.CLIPS:
        generation = run.spec.generate.generation
        asked = max(finished.succeeded.clip_count, len(generation.prompts) * generation.clips_per_prompt)
        lost = asked - await store.count_clips(conn, run.run_id, attempt=job.attempt)
        if lost > 0:
            return _failed(f"{lost} of its {asked} clips did not arrive; {run.another_try}")
    return finished


def _failed(but: str) -> job_event_pb2.JobFinished:
    message = f"the job ended well, but {but}"
    return job_event_pb2.JobFinished(failed=job_event_pb2.JobFailed(reason="TRAINING_CRASHED", message=message))


async def register(
    conn: Connection, run: Run, succeeded: job_event_pb2.JobSucceeded, artefacts: Artefacts | None
) -> Registered:
    """Register what a run left. artefacts: None for clips, of which nothing is registered."""
    if run.leaves is Leaves.CLIPS:
        return Registered()
    if artefacts is None:
        raise ValueError(f"a job cannot leave {_WORDS[run.leaves]} and no artefacts")
    if run.leaves is Leaves.MODEL:
        model_id = new_id("mdl")
        await models.insert(
            conn,
            model_id=model_id,
            run_id=run.run_id,
            files=succeeded.model_files,
            training_config=artefacts.training_config,
            report=artefacts.report,
            report_markdown=artefacts.report_markdown,
        )
        return Registered(model_id=model_id, final_loss=artefacts.report.final_loss)
    trained = settings_of(run.spec)
    assert trained is not None, "a kind that leaves an adapter has settings of it"
    adapter_id = new_id("adp")
    await adapters.insert(
        conn,
        adapter_id=adapter_id,
        run_id=run.run_id,
        files=succeeded.adapter_files,
        base_model=trained.base_model,
        training_config=artefacts.training_config,
        report=artefacts.report,
        report_markdown=artefacts.report_markdown,
    )
    return Registered(adapter_id=adapter_id, final_loss=artefacts.report.final_loss)
