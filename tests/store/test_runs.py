"""What clients ask of runs: create, cancel, resume; and what becomes of them."""

from __future__ import annotations

import pytest

from control_plane import reports
from control_plane.adapters import store as adapters
from control_plane.datasets import store as datasets
from control_plane.errors import (
    CheckpointNotFound,
    DatasetEmpty,
    DatasetVersionNotFound,
    ExperimentNotFound,
    LeaseLost,
    ReportNotReady,
    RunFinished,
    RunNotFound,
    RunNotResumable,
    TrainingKindUnavailable,
)
from control_plane.experiments.commands import create_experiment, update_experiment
from control_plane.ids import new_id
from control_plane.runs import store
from control_plane.runs.commands import cancel_run, claim_next, create_run, lose_attempt, resume_run
from control_plane.runs.model import Job, Run, RunState
from tests.support.registry import BASE_MODEL, CANCELLED, FAILED, SUCCEEDED, Registry, supervised
from tunesmith.errors import InvalidField
from tunesmith.v1 import job_event_pb2, job_spec_pb2


async def events(registry: Registry, run: Run | Job) -> list[tuple[str | None, str, str]]:
    """(from, to, who) of all that happened to a run."""
    async with registry.db.connection() as conn:
        found = await store.events(conn, run_id=run.run_id, limit=100)
    assert [event.revision for event in found] == list(range(1, len(found) + 1))
    return [(event.from_state, event.to_state, event.actor) for event in found]


async def test_a_new_run_is_queued_with_nothing_left_open(registry: Registry):
    experiment = await registry.experiment()

    run = await registry.queued(
        experiment, spec=supervised(epochs=3), display_name="try", priority=5, labels={"a": "b"}
    )

    assert (run.state, run.attempt, run.kind, run.priority, run.labels) == (
        RunState.QUEUED,
        0,
        "supervised",
        5,
        {"a": "b"},
    )
    training = run.spec.supervised.training
    assert (training.epochs, training.batch_size, training.learning_rate) == (3, 8, 0.0002)
    assert await events(registry, run) == [(None, "queued", "client")]
    async with registry.db.connection() as conn:
        assert await store.get(conn, run.run_id) == run


async def test_a_runs_settings_stand_above_its_experiments(registry: Registry):
    dataset = await registry.dataset()
    experiment = await create_experiment(
        registry.db, name="first", dataset_id=dataset.dataset_id, default_spec=supervised(epochs=3, batch_size=2)
    )

    run = await registry.queued(experiment, spec=job_spec_pb2.JobSpec(supervised=supervised(epochs=7).supervised))
    plain = await registry.queued(experiment, spec=None)

    assert (run.spec.supervised.training.epochs, run.spec.supervised.training.batch_size) == (7, 2)
    assert (plain.spec.supervised.training.epochs, plain.spec.supervised.adapter.base_model) == (3, BASE_MODEL)


async def test_a_run_takes_the_latest_version_or_freezes_one(registry: Registry):
    experiment = await registry.experiment()

    first = await registry.queued(experiment)
    second = await registry.queued(experiment)
    rated = await registry.queued(experiment, min_rating=4)
    again = await registry.queued(experiment, min_rating=4)

    assert first.dataset_version_id == second.dataset_version_id != rated.dataset_version_id
    assert again.dataset_version_id == rated.dataset_version_id, "what is frozen already is not frozen again"
    assert rated.dataset_version_id is not None
    async with registry.db.connection() as conn:
        version = await datasets.get_version(conn, rated.dataset_version_id)
    assert (version.sample_count, version.min_rating, version.number) == (2, 4, 2)
    assert version.digest in registry.blobs.stored


async def test_validate_only_shows_the_run_and_stores_nothing(registry: Registry):
    experiment = await registry.experiment()

    shown = await registry.queued(experiment, validate_only=True, min_rating=4)

    assert (shown.run_id, shown.state, shown.spec.supervised.training.epochs) == ("", RunState.QUEUED, 10)
    assert [await registry.count(table) for table in ("runs", "run_events", "dataset_versions")] == [0, 0, 0]
    assert not registry.blobs.stored
    with pytest.raises(DatasetEmpty):
        await registry.queued(experiment, validate_only=True, min_rating=5.0001)


async def test_a_run_that_could_not_be_done_is_refused_before_anything_is_stored(registry: Registry):
    experiment = await registry.experiment()
    bare = await create_experiment(registry.db, name="bare")
    dsv = new_id("dsv")

    with pytest.raises(ExperimentNotFound):
        await create_run(registry.db, registry.blobs, experiment_id=new_id("exp"), spec=supervised())
    with pytest.raises(InvalidField, match="spec: no kind of training"):
        await registry.queued(experiment, spec=job_spec_pb2.JobSpec())
    with pytest.raises(InvalidField, match=r"spec\.supervised\.training\.epochs"):
        await registry.queued(experiment, spec=supervised(epochs=0))
    with pytest.raises(InvalidField, match=r"dataset_version_id: missing; give one, or set dataset_id"):
        await registry.queued(bare)
    with pytest.raises(InvalidField, match="min_rating: not beside dataset_version_id"):
        await registry.queued(experiment, dataset_version_id=dsv, min_rating=3)
    with pytest.raises(DatasetVersionNotFound):
        await registry.queued(experiment, dataset_version_id=dsv)
    with pytest.raises(InvalidField, match="min_rating: tiny_lm takes no rated clips"):
        await registry.queued(experiment, spec=job_spec_pb2.JobSpec(tiny_lm=job_spec_pb2.TinyLmSpec()), min_rating=3)
    assert [await registry.count(table) for table in ("runs", "dataset_versions")] == [0, 0]


async def test_a_kind_that_no_node_runs_is_refused_once_nodes_are_known(registry: Registry):
    experiment = await registry.experiment()
    tiny_lm = job_spec_pb2.JobSpec(tiny_lm=job_spec_pb2.TinyLmSpec())
    assert (await registry.queued(experiment, spec=tiny_lm)).dataset_version_id is None
    await registry.node(kinds=("supervised", "dpo"))

    with pytest.raises(TrainingKindUnavailable, match=r"no node runs tiny_lm; this installation runs: dpo, supervised"):
        await registry.queued(experiment, spec=tiny_lm)


async def test_success_registers_adapter_report_and_run_together(registry: Registry):
    run, job = await registry.running()

    ended = await registry.finish(job, SUCCEEDED)

    assert (ended.state, ended.final_loss) == (RunState.SUCCEEDED, 1.5)
    assert ended.adapter_id is not None
    async with registry.db.connection() as conn:
        adapter = await adapters.get(conn, ended.adapter_id)
        report = await adapters.report(conn, ended.adapter_id)
        assert await reports.of_run(conn, run.run_id) == report
    assert (adapter.name, adapter.version, adapter.base_model) == ("first", 1, BASE_MODEL)
    assert (adapter.run_id, adapter.dataset_version_id) == (run.run_id, run.dataset_version_id)
    assert [file.path for file in adapter.files] == ["adapter_model.safetensors"]
    assert (report.report.best_loss, report.markdown) == (1.25, "# Report\n")
    assert await events(registry, run) == [
        (None, "queued", "client"),
        ("queued", "starting", "dispatch"),
        ("starting", "running", "ingest"),
        ("running", "succeeded", "ingest"),
    ]


async def test_failure_keeps_the_reason_and_the_checkpoints_and_registers_no_adapter(registry: Registry):
    run, job = await registry.running()
    await registry.checkpoint(job, 10)

    ended = await registry.finish(job, FAILED)

    assert (ended.state, ended.state_reason) == (RunState.FAILED, "reduce batch_size from 8 to 4")
    assert ended.failure is not None
    assert (ended.failure.reason, ended.failure.exit_code) == ("OUT_OF_MEMORY", 1)
    assert await registry.count("adapters") == 0
    async with registry.db.connection() as conn:
        assert [each.step for each in await store.checkpoints(conn, run_id=run.run_id, limit=10)] == [10]
        with pytest.raises(ReportNotReady, match="the run is failed and has no report"):
            await reports.of_run(conn, run.run_id)


async def test_what_a_process_says_cannot_keep_its_run_from_ending(registry: Registry):
    _, job = await registry.running()
    failed = job_event_pb2.JobFailed(reason="PROCESS_DIED", message="a\0b", stderr_tail="\0\0 \ud7ff €")

    ended = await registry.finish(job, job_event_pb2.JobFinished(failed=failed))

    assert ended.failure is not None
    assert (ended.failure.message, ended.failure.stderr_tail) == ("a\ufffdb", "\ufffd\ufffd \ud7ff €")


async def test_a_stale_attempt_cannot_finish_a_run(registry: Registry):
    run, first = await registry.running()
    await registry.checkpoint(first, 10)
    await lose_attempt(registry.db, first, "nothing was heard of it")
    second = await registry.claim(await registry.node())
    await registry.begin(second)

    for write in (registry.finish(first, SUCCEEDED), registry.finish(first, FAILED), registry.begin(first)):
        with pytest.raises(LeaseLost, match=r"attempt 1 of run_.* is over; stop its job"):
            await write

    assert (await registry.get(run)).state is RunState.RUNNING
    assert (await registry.finish(second, SUCCEEDED)).state is RunState.SUCCEEDED


@pytest.mark.parametrize("ending", [SUCCEEDED, FAILED, CANCELLED])
async def test_an_end_that_is_told_twice_is_refused_the_second_time(registry: Registry, ending):
    run, job = await registry.running()
    ended = await registry.finish(job, ending)

    for again in (SUCCEEDED, FAILED, CANCELLED):
        with pytest.raises(LeaseLost):
            await registry.finish(job, again)
    assert await lose_attempt(registry.db, job, "late") is None
    assert await registry.get(run) == ended


async def in_state(registry: Registry, state: RunState) -> Run:
    """A run in a state, by the way that leads there."""
    if state is RunState.QUEUED:
        return await registry.queued()
    if state is RunState.PAUSED:
        run = await registry.queued()
        async with registry.db.transaction() as conn:
            return await store.move(conn, run, RunState.PAUSED, actor="client")
    if state is RunState.STARTING:
        return (await registry.claimed())[0]
    run, job = await registry.running()
    if state in (RunState.STOPPING, RunState.CANCELLED):
        run = await cancel_run(registry.db, run_id=run.run_id)
    endings = {RunState.SUCCEEDED: SUCCEEDED, RunState.FAILED: FAILED, RunState.CANCELLED: CANCELLED}
    return await registry.finish(job, endings[state]) if state in endings else run


@pytest.mark.parametrize(
    ("state", "after"),
    [
        (RunState.QUEUED, RunState.CANCELLED),
        (RunState.PAUSED, RunState.CANCELLED),
        (RunState.STARTING, RunState.STOPPING),
        (RunState.RUNNING, RunState.STOPPING),
        (RunState.STOPPING, RunState.STOPPING),
        (RunState.CANCELLED, RunState.CANCELLED),
        (RunState.SUCCEEDED, None),
        (RunState.FAILED, None),
    ],
)
async def test_cancel_in_every_state(registry: Registry, state: RunState, after: RunState | None):
    run = await in_state(registry, state)

    if after is None:
        with pytest.raises(RunFinished, match=f"the run has {state}"):
            await cancel_run(registry.db, run_id=run.run_id)
        assert await registry.get(run) == run
        return
    first = await cancel_run(registry.db, run_id=run.run_id)
    again = await cancel_run(registry.db, run_id=run.run_id)
    assert first == again == await registry.get(run)
    assert first.state is after
    assert (first.revision == run.revision) == (state is after)


async def test_a_run_that_was_asked_to_stop_is_cancelled_however_its_process_ends(registry: Registry):
    run, job = await registry.running()
    await cancel_run(registry.db, run_id=run.run_id)

    ended = await registry.finish(job, FAILED)

    assert (ended.state, ended.failure) == (RunState.CANCELLED, None)
    assert "reduce batch_size" in ended.state_reason


async def test_a_run_that_was_done_before_it_could_stop_has_succeeded(registry: Registry):
    run, job = await registry.running()
    await cancel_run(registry.db, run_id=run.run_id)

    assert (await registry.finish(job, SUCCEEDED)).state is RunState.SUCCEEDED


async def test_a_job_that_starts_after_the_request_to_stop_does_not_undo_it(registry: Registry):
    run, job = await registry.claimed()
    await cancel_run(registry.db, run_id=run.run_id)

    assert (await registry.begin(job)).state is RunState.STOPPING
    assert (await registry.finish(job, CANCELLED)).state is RunState.CANCELLED


async def test_a_resumed_run_goes_on_from_the_last_checkpoint_with_the_same_settings_and_data(registry: Registry):
    run, job = await registry.running()
    for step in (10, 30, 20):
        await registry.checkpoint(job, step)
    await registry.finish(job, FAILED)

    resumed = await resume_run(registry.db, run_id=run.run_id)
    claimed = await claim_next(registry.db, node_id=job.node_id, lease_s=15)

    assert (resumed.state, resumed.resumed_from_run_id, resumed.resumed_from_step) == (RunState.QUEUED, run.run_id, 30)
    assert (resumed.spec, resumed.dataset_version_id) == (run.spec, run.dataset_version_id)
    assert claimed is not None and claimed[2] is not None
    assert (claimed[0].run_id, claimed[2].run_id, claimed[2].step) == (resumed.run_id, run.run_id, 30)


async def test_a_run_may_be_resumed_from_an_earlier_checkpoint_than_the_last(registry: Registry):
    run, job = await registry.running()
    for step in (10, 20, 30):
        await registry.checkpoint(job, step)
    await registry.finish(job, FAILED)

    resumed = await resume_run(registry.db, run_id=run.run_id, checkpoint_step=20)
    claimed = await claim_next(registry.db, node_id=job.node_id, lease_s=15)

    assert resumed.resumed_from_step == 20
    assert claimed is not None and claimed[2] is not None and claimed[2].step == 20
    with pytest.raises(CheckpointNotFound, match="no checkpoint of step 15; see ListCheckpoints"):
        await resume_run(registry.db, run_id=run.run_id, checkpoint_step=15)


async def test_a_resumed_run_that_fails_early_is_resumed_from_its_parents_checkpoint(registry: Registry):
    run, job = await registry.running()
    await registry.checkpoint(job, 10)
    await cancel_run(registry.db, run_id=run.run_id)
    await registry.finish(job, CANCELLED)
    child = await resume_run(registry.db, run_id=run.run_id)
    await registry.finish(await registry.claim(await registry.node()), FAILED)

    grandchild = await resume_run(registry.db, run_id=child.run_id)
    claimed = await claim_next(registry.db, node_id=job.node_id, lease_s=15)

    assert (grandchild.resumed_from_run_id, grandchild.resumed_from_step) == (child.run_id, 10)
    assert claimed is not None and claimed[2] is not None
    assert (claimed[2].run_id, claimed[2].step) == (run.run_id, 10)


async def test_only_what_failed_or_was_cancelled_can_be_resumed(registry: Registry):
    run, job = await registry.running()

    with pytest.raises(RunNotResumable, match="the run is running, and only failed and cancelled runs"):
        await resume_run(registry.db, run_id=run.run_id)
    await registry.finish(job, FAILED)
    with pytest.raises(CheckpointNotFound, match="create a new run"):
        await resume_run(registry.db, run_id=run.run_id)
    with pytest.raises(RunNotFound):
        await resume_run(registry.db, run_id=new_id("run"))
    assert await registry.count("runs") == 1


async def test_lists_of_a_run_page_by_key(registry: Registry):
    run, job = await registry.running()
    for step in (10, 20, 30):
        await registry.checkpoint(job, step)

    async with registry.db.connection() as conn:
        first = await store.checkpoints(conn, run_id=run.run_id, limit=2)
        rest = await store.checkpoints(conn, run_id=run.run_id, after=first[-1].key, limit=2)
        begun = await store.events(conn, run_id=run.run_id, limit=1)
        later = await store.events(conn, run_id=run.run_id, after=begun[-1].key, limit=9)
        assert await store.previews(conn, run_id=run.run_id, after="1/2/3/4", limit=1) == []
        for listing in (store.events, store.checkpoints, store.previews):
            with pytest.raises(RunNotFound):
                await listing(conn, run_id=new_id("run"), limit=1)

    assert [each.step for each in first + rest] == [10, 20, 30]
    assert [event.to_state for event in begun + later] == ["queued", "starting", "running"]


async def test_runs_are_listed_by_experiment_and_state(registry: Registry):
    run, _ = await registry.running()
    experiment = await registry.experiment("second")
    waiting = await registry.queued(experiment)

    async with registry.db.connection() as conn:
        everything = await store.page(conn, limit=10)
        queued = await store.page(conn, states=[RunState.QUEUED, RunState.PAUSED], limit=10)
        of_second = await store.page(conn, experiment_id=experiment.experiment_id, limit=10)
        older = await store.page(conn, after=waiting.run_id, limit=10)

    assert {each.run_id for each in everything} == {run.run_id, waiting.run_id}
    assert [queued, of_second] == [[waiting], [waiting]]
    assert older == [run]
    assert run.node_id is not None


async def test_the_settings_of_a_run_do_not_follow_its_experiment(registry: Registry):
    experiment = await registry.experiment()
    run = await registry.queued(experiment)

    await update_experiment(
        registry.db, experiment_id=experiment.experiment_id, changes={"default_spec": supervised(epochs=99)}
    )

    assert (await registry.get(run)).spec == run.spec
