"""Language models: what runs of tiny_lm leave, and the text that is shown while they train."""

from __future__ import annotations

import asyncio
import hashlib
from typing import Any

import pytest

from control_plane import reports
from control_plane.adapters import store as adapters
from control_plane.config import DispatchConfig
from control_plane.errors import EtagMismatch, ModelNotFound, ReportNotReady, RunFinished, RunNotFound
from control_plane.ids import new_id
from control_plane.loops.ingest import Ingest
from control_plane.models import store
from control_plane.models.commands import update_labels
from control_plane.runs import store as runs
from control_plane.runs.commands import cancel_run, mark_started
from control_plane.runs.model import Job, Preview, RunState
from control_plane.telemetry.commands import apply_events
from tests.support.fakes import FakeTrainer
from tests.support.registry import FAILED, MODEL_SUCCEEDED, SUCCEEDED, Registry, tiny_lm
from tunesmith.v1 import blob_pb2, job_event_pb2


async def training(registry: Registry, *, name: str = "prose", slots: int = 1) -> Job:
    """A job that trains a language model."""
    experiment = await registry.experiment(name)
    await registry.queued(experiment, spec=tiny_lm())
    job = await registry.claim(await registry.node(slots=slots, kinds=("tiny_lm",)))
    await registry.begin(job)
    return job


async def test_success_registers_model_report_and_run_together(registry: Registry):
    job = await training(registry)

    ended = await registry.finish(job, MODEL_SUCCEEDED)

    assert (ended.state, ended.final_loss, ended.adapter_id) == (RunState.SUCCEEDED, 1.5, None)
    assert ended.model_id is not None and ended.model_id.startswith("mdl_")
    async with registry.db.connection() as conn:
        model = await store.get(conn, ended.model_id)
        report = await store.report(conn, ended.model_id)
    assert (model.name, model.version, model.final_loss, model.best_loss) == ("prose", 1, 1.5, 1.25)
    assert (model.run_id, model.experiment_id, model.labels) == (ended.run_id, ended.experiment_id, {})
    assert [file.path for file in model.files] == ["best_model.pt"]
    assert model.training_config.spec == ended.spec
    assert (report.report.best_loss, report.markdown) == (1.25, "# Report\n")
    assert await registry.count("adapters") == 0


async def test_the_files_of_a_model_are_copied_and_its_texts_kept_as_they_are_told(registry: Registry):
    job = await training(registry)
    await mark_started(registry.db, job)
    trainer = FakeTrainer()
    left = job_event_pb2.JobSucceeded(
        model_files=[keep(trainer, "best_model.pt", b"weights"), keep(trainer, "tokenizer/tokenizer.model", b"pieces")],
        training_config=keep(trainer, "training_config.json", b"{}"),
        report_json=keep(trainer, "report.json", b'{"final_loss": 4.5, "best_loss": 4.75}'),
        report_markdown=keep(trainer, "report.md", b"# Report"),
    )
    trainer.logs[job.job_id] = [
        job_event_pb2.JobEvent(seq=1, preview_saved=job_event_pb2.PreviewSaved(step=10, prompt="The", text="The sea")),
        job_event_pb2.JobEvent(seq=2, finished=job_event_pb2.JobFinished(succeeded=left)),
    ]

    async with asyncio.timeout(20), Ingest(registry.db, trainer, registry.blobs, DispatchConfig()) as ingest:
        await ingest.follow(job)

    ended = await registry.get(job)
    async with registry.db.connection() as conn:
        model = await store.get(conn, str(ended.model_id))
        [preview] = await runs.previews(conn, run_id=job.run_id, limit=10)
    assert (ended.state, ended.final_loss, model.best_loss) == (RunState.SUCCEEDED, 4.5, 4.75)
    assert model.files == tuple(left.model_files)
    assert set(trainer.blobs) <= set(registry.blobs.stored)
    assert (preview.step, preview.text) == (10, "The sea")


def keep(trainer: FakeTrainer, path: str, data: bytes) -> blob_pb2.File:
    """A file of the node."""
    digest = hashlib.sha256(data).hexdigest()
    trainer.blobs[digest] = data
    return blob_pb2.File(path=path, digest=digest, size_bytes=len(data))


async def test_a_report_is_found_by_its_run_whichever_noun_came_of_it(registry: Registry):
    model, adapter = await registry.model(), await registry.adapter(await registry.experiment("folk"))

    async with registry.db.connection() as conn:
        of_model = await reports.of_run(conn, model.run_id)
        of_adapter = await reports.of_run(conn, adapter.run_id)
        assert of_model == await store.report(conn, model.model_id)
        assert of_adapter == await adapters.report(conn, adapter.adapter_id)
        with pytest.raises(RunNotFound):
            await reports.of_run(conn, new_id("run"))

    assert [of_model.report.config.run_id, of_adapter.report.config.run_id] == [model.run_id, adapter.run_id]


async def test_a_run_that_fails_registers_no_model_and_has_no_report(registry: Registry):
    ended = await registry.finish(await training(registry), FAILED)

    assert (ended.state, ended.model_id, await registry.count("models")) == (RunState.FAILED, None, 0)
    async with registry.db.connection() as conn:
        with pytest.raises(ReportNotReady, match="the run is failed and has no report; resume it"):
            await reports.of_run(conn, ended.run_id)


async def test_models_of_one_experiment_count_up_though_they_end_at_once(registry: Registry):
    experiment = await registry.experiment("prose")
    node = await registry.node(slots=6, kinds=("tiny_lm",))
    jobs = []
    for _ in range(6):
        await registry.queued(experiment, spec=tiny_lm())
        jobs.append(await registry.claim(node))
        await registry.begin(jobs[-1])

    await asyncio.gather(*(registry.finish(job, MODEL_SUCCEEDED) for job in jobs))

    async with registry.db.connection() as conn:
        found = await store.page(conn, name="prose", limit=10)
    assert sorted(model.version for model in found) == [1, 2, 3, 4, 5, 6]


async def test_adapters_and_models_of_one_name_count_apart(registry: Registry):
    experiment = await registry.experiment("both")

    adapter = await registry.adapter(experiment)
    model = await registry.model(experiment)

    assert (adapter.name, adapter.version, model.name, model.version) == ("both", 1, "both", 1)


@pytest.mark.parametrize("kind", ["tiny_lm", "supervised"])
async def test_a_success_with_the_other_noun_is_a_failure_that_says_so(registry: Registry, kind: str):
    if kind == "tiny_lm":
        job, ending, said = await training(registry), SUCCEEDED, "left an adapter, and tiny_lm leaves a model"
    else:
        job, ending, said = (
            (await registry.running())[1],
            MODEL_SUCCEEDED,
            "left a model, and supervised leaves an adapter",
        )

    ended = await registry.finish(job, ending)

    assert ended.failure is not None
    assert said in ended.failure.message and ended.failure.message.endswith("update its node, then resume the run")
    assert [await registry.count(table) for table in ("adapters", "models")] == [0, 0]


async def test_a_run_that_was_to_stop_is_cancelled_where_its_success_has_the_other_noun(registry: Registry):
    job = await training(registry)
    await cancel_run(registry.db, run_id=job.run_id)

    ended = await registry.finish(job, SUCCEEDED)

    assert (ended.state, ended.failure) == (RunState.CANCELLED, None)


async def test_what_has_succeeded_cannot_be_cancelled_and_keeps_its_model(registry: Registry):
    model = await registry.model()

    with pytest.raises(RunFinished, match="it cannot be cancelled; its model stays"):
        await cancel_run(registry.db, run_id=model.run_id)


async def test_models_are_listed_by_name_experiment_and_prefix_newest_first(registry: Registry):
    first = await registry.model(await registry.experiment("prose"))
    await asyncio.sleep(0.002)  # ids of one millisecond have no order
    second = await registry.model(await registry.experiment("verse"))

    async with registry.db.connection() as conn:
        everything = await store.page(conn, limit=10)
        named = await store.page(conn, name="prose", limit=10)
        of_second = await store.page(conn, experiment_id=second.experiment_id, limit=10)
        by_prefix = await store.page(conn, id_prefix=first.model_id, limit=10)
        older = await store.page(conn, after=second.model_id, limit=10)

    assert everything == [second, first]
    assert [named, of_second, by_prefix, older] == [[first], [second], [first], [first]]


async def test_labels_of_a_model_can_be_replaced_under_its_etag(registry: Registry):
    model = await registry.model()

    changed = await update_labels(registry.db, model_id=model.model_id, etag="1", labels={"stage": "live"})

    assert (changed.labels, changed.etag) == ({"stage": "live"}, "2")
    with pytest.raises(EtagMismatch, match="the model was changed since it was read; read it again"):
        await update_labels(registry.db, model_id=model.model_id, etag="1", labels={})
    with pytest.raises(ModelNotFound, match="list them with ListModels"):
        await update_labels(registry.db, model_id=new_id("mdl"), labels={})


async def told(registry: Registry, job: Job, *previews: job_event_pb2.PreviewSaved) -> list[Preview]:
    """What is kept of these previews."""
    events = [job_event_pb2.JobEvent(seq=seq, preview_saved=saved) for seq, saved in enumerate(previews, start=1)]
    await apply_events(registry.db, registry.blobs, job, events, lease_s=15)
    async with registry.db.connection() as conn:
        return await runs.previews(conn, run_id=job.run_id, limit=10)


async def test_a_text_is_a_preview_and_is_replaced_when_its_step_comes_again(registry: Registry):
    job = await training(registry)
    first = job_event_pb2.PreviewSaved(step=10, prompt="The", seed=7, text="The ship\nsailed", duration_s=3)
    again = job_event_pb2.PreviewSaved(step=10, prompt="The", seed=7, text="The sea")
    other = job_event_pb2.PreviewSaved(step=10, prompt_index=1, prompt="En un", text="En un lugar")

    kept = await told(registry, job, first, other, again)

    assert [(each.prompt, each.text, each.file, each.duration_s) for each in kept] == [
        ("The", "The sea", None, 0),
        ("En un", "En un lugar", None, 0),
    ]


async def test_a_text_that_postgres_cannot_hold_or_that_has_no_end_is_kept_as_far_as_it_goes(registry: Registry):
    job = await training(registry)
    odd = job_event_pb2.PreviewSaved(step=1, text="a\0b")
    endless = job_event_pb2.PreviewSaved(step=2, text="é" * 50_000)

    kept = await told(registry, job, odd, endless)

    assert [each.text for each in kept] == ["a\ufffdb", "é" * 32_768]


@pytest.mark.parametrize("made", [{}, {"text": "a", "file": {"path": "a.wav", "digest": "a" * 64, "size_bytes": 1}}])
async def test_a_preview_of_neither_or_both_of_clip_and_text_is_a_loss(registry: Registry, made: dict[str, Any]):
    job = await training(registry)
    await registry.blobs.put_bytes(b"a")

    assert await told(registry, job, job_event_pb2.PreviewSaved(step=1, **made)) == []
    assert await registry.count("telemetry_losses WHERE reason LIKE '%not one of file and text'") == 1


FILE = blob_pb2.File(path="best_model.pt", digest="b" * 64, size_bytes=1)


@pytest.mark.parametrize(
    ("left", "said"),
    [
        ({}, "it left nothing; resume the run"),
        ({"adapter_files": [FILE], "model_files": [FILE]}, "it left adapter and model; resume the run"),
        ({"model_files": [FILE]}, "its node does not have 1 of the model's files; resume the run"),
    ],
)
async def test_a_success_of_a_hostile_node_registers_nothing(registry: Registry, left: dict[str, Any], said: str):
    job = await training(registry)
    named = {"training_config": FILE, "report_json": FILE, "report_markdown": FILE}
    finished = job_event_pb2.JobFinished(succeeded=job_event_pb2.JobSucceeded(**named, **left))

    await apply_events(registry.db, registry.blobs, job, [job_event_pb2.JobEvent(seq=1, finished=finished)], lease_s=15)

    ended = await registry.get(job)
    assert ended.failure is not None and ended.failure.message == f"the training ended well, but {said}"
    assert [await registry.count(table) for table in ("adapters", "models")] == [0, 0]
