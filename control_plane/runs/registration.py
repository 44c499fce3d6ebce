"""What a training left is registered as its kind of training wants it: an adapter or, of tiny_lm, a model."""

from __future__ import annotations

from control_plane.adapters import store as adapters
from control_plane.db.connection import Connection
from control_plane.ids import new_id
from control_plane.models import store as models
from control_plane.runs.model import Artefacts, Run
from tunesmith.adapter_shape import settings_of
from tunesmith.v1 import job_event_pb2


def of_its_kind(run: Run, finished: job_event_pb2.JobFinished) -> job_event_pb2.JobFinished:
    """The end as it was told; a failure where the training left an adapter and was to leave a model, or the reverse."""
    left = "a model" if finished.succeeded.model_files else "an adapter"
    wanted = "a model" if settings_of(run.spec) is None else "an adapter"
    if not finished.HasField("succeeded") or left == wanted:
        return finished
    what = f"the training ended well, but it left {left}, and {run.kind} leaves {wanted}"
    message = f"{what}; update its node, then resume the run"
    return job_event_pb2.JobFinished(failed=job_event_pb2.JobFailed(reason="TRAINING_CRASHED", message=message))


async def register(
    conn: Connection, run: Run, succeeded: job_event_pb2.JobSucceeded, artefacts: Artefacts
) -> tuple[str | None, str | None]:
    """Register what a run left; the id of the adapter, or that of the model, beside None."""
    trained = settings_of(run.spec)
    if trained is None:
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
        return None, model_id
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
    return adapter_id, None
