"""Dispatch: what waits is given to nodes that can do it, and orders are repeated until they are obeyed."""

from __future__ import annotations

import asyncio

import pytest

from control_plane.config import DispatchConfig
from control_plane.loops.dispatch import Dispatch
from control_plane.runs import store as runs
from control_plane.runs.commands import cancel_run, lose_attempt
from control_plane.runs.model import RunState
from tests.support.fakes import FakeTrainer
from tests.support.registry import SUCCEEDED, Registry, supervised
from tunesmith.v1 import job_spec_pb2


@pytest.fixture
def trainer() -> FakeTrainer:
    return FakeTrainer()


@pytest.fixture
def dispatch(registry: Registry, trainer: FakeTrainer) -> Dispatch:
    return Dispatch(registry.db, trainer, DispatchConfig(poll_s=5, reconcile_s=0))


async def test_a_queued_run_is_started_on_a_node_with_all_that_it_needs(
    registry: Registry, trainer: FakeTrainer, dispatch: Dispatch
):
    run = await registry.queued(spec=supervised(epochs=3))
    node = await registry.node()

    await dispatch.tick()

    job = trainer.started[0]
    assert (job.run_id, job.attempt, job.spec) == (run.run_id, 1, run.spec)
    assert (job.dataset_version_id, job.HasField("resume_from")) == (run.dataset_version_id, False)
    assert job.dataset_digest in registry.blobs.stored
    now = await registry.get(run)
    assert (now.state, now.node_id) == (RunState.STARTING, node.node_id)
    assert await registry.count("attempts WHERE state = 'preparing'") == 1


async def test_a_node_without_an_answer_is_asked_again_and_told_once(
    registry: Registry, trainer: FakeTrainer, dispatch: Dispatch
):
    run = await registry.queued()
    node = await registry.node()
    trainer.silent.add(node.name)
    await dispatch.tick()
    assert (await registry.get(run)).state is RunState.STARTING

    trainer.silent.clear()
    for _ in range(3):
        await dispatch.tick()

    assert [job.run_id for job in trainer.started] == [run.run_id]


@pytest.mark.parametrize("reason", ["NODE_FULL", "DISK_FULL", "TRAINING_KIND_UNAVAILABLE"])
async def test_a_run_that_a_node_has_no_room_for_waits_for_another(
    registry: Registry, trainer: FakeTrainer, dispatch: Dispatch, reason: str
):
    run = await registry.queued()
    first = await registry.node("full")
    trainer.refusals[first.name] = reason
    await dispatch.tick()
    waiting = await registry.get(run)

    second = await registry.node("free")
    await dispatch.tick()

    assert (waiting.state, waiting.lost_attempts) == (RunState.QUEUED, 0)
    assert (await registry.get(run)).node_id == second.node_id
    assert [job.attempt for job in trainer.started] == [2]


async def test_a_node_without_room_is_not_asked_with_every_tick(
    registry: Registry, trainer: FakeTrainer, dispatch: Dispatch
):
    run = await registry.queued()
    trainer.refusals[(await registry.node()).name] = "NODE_FULL"

    for _ in range(5):
        await dispatch.tick()

    assert (await registry.get(run)).attempt == 1


async def test_a_run_that_a_node_refuses_for_good_fails_with_its_reason(
    registry: Registry, trainer: FakeTrainer, dispatch: Dispatch
):
    run = await registry.queued()
    trainer.refusals[(await registry.node()).name] = "INVALID_FIELD"

    await dispatch.tick()

    ended = await registry.get(run)
    assert ended.state is RunState.FAILED
    assert ended.failure is not None
    assert ended.failure.reason == "INVALID_FIELD"


async def test_a_run_that_was_lost_is_started_again_from_its_checkpoint(
    registry: Registry, trainer: FakeTrainer, dispatch: Dispatch
):
    run, job = await registry.running()
    await registry.checkpoint(job, 40)
    await lose_attempt(registry.db, job, "silence")

    await dispatch.tick()

    again = trainer.started[0]
    assert (again.run_id, again.attempt) == (run.run_id, 2)
    assert (again.resume_from.run_id, again.resume_from.attempt, again.resume_from.step) == (run.run_id, 1, 40)


async def test_a_run_that_was_cancelled_is_stopped_until_it_has_ended(
    registry: Registry, trainer: FakeTrainer, dispatch: Dispatch
):
    run, job = await registry.running()
    trainer.logs[job.job_id] = []
    await cancel_run(registry.db, run_id=run.run_id)

    await dispatch.tick()
    await dispatch.tick()
    stopped = list(trainer.stopped)
    await registry.finish(job, SUCCEEDED)
    await dispatch.tick()

    assert stopped == [job.job_id, job.job_id] == trainer.stopped


async def test_a_cancelled_run_that_its_node_does_not_know_ends_at_once(
    registry: Registry, trainer: FakeTrainer, dispatch: Dispatch
):
    run, _ = await registry.claimed()
    await cancel_run(registry.db, run_id=run.run_id)

    await dispatch.tick()

    assert (await registry.get(run)).state is RunState.CANCELLED
    assert trainer.started == []


async def test_what_runs_on_a_node_though_it_has_ended_here_is_stopped(
    registry: Registry, trainer: FakeTrainer, dispatch: Dispatch
):
    _, lost = await registry.running()
    await lose_attempt(registry.db, lost, "a cut link")
    trainer.logs = {lost.job_id: [], "job_of_another_control_plane": []}

    await dispatch.tick()

    assert trainer.stopped == [lost.job_id]


async def test_a_queued_run_says_what_it_waits_for(registry: Registry, dispatch: Dispatch):
    experiment = await registry.experiment()
    first = await registry.queued(experiment)

    async def reason() -> str:
        await dispatch.tick()
        return (await registry.get(first)).state_reason

    assert await reason() == "no node has joined yet; start one with `tunesmith node`"
    node = await registry.node("other", kinds=("tiny_lm",))
    assert await reason() == "no node is online that runs supervised"
    node = await registry.node("box", slots=2)
    for _ in range(2):
        await registry.queued(experiment, priority=9)
    assert await reason() == "all 2 slots that run supervised are taken"
    await registry.silence(node)
    assert await reason() == "no node is online that runs supervised; silent: box"
    async with registry.db.connection() as conn:
        before = await conn.execute("SELECT xmin FROM runs WHERE run_id = %s", (first.run_id,))
        await dispatch.tick()
        after = await conn.execute("SELECT xmin FROM runs WHERE run_id = %s", (first.run_id,))
        assert await before.fetchone() == await after.fetchone(), "nothing is written where nothing has changed"


async def test_a_node_that_hangs_holds_up_nobody_else(registry: Registry, trainer: FakeTrainer):
    dispatch = Dispatch(registry.db, trainer, DispatchConfig(poll_s=0.5))
    experiment = await registry.experiment()
    hanging, good = await registry.node("hanging"), await registry.node("good")
    answers = asyncio.Event()
    start_job = trainer.start_job

    async def slow(node, job):
        if node.node_id == hanging.node_id:
            await answers.wait()
        await start_job(node, job)

    async def node_of(job):
        async with registry.db.connection() as conn:
            return (await runs.get(conn, job.run_id)).node_id

    trainer.start_job = slow
    for _ in range(2):
        await registry.queued(experiment)

    await dispatch.tick()
    await dispatch.tick()

    assert [await node_of(job) for job in trainer.started] == [good.node_id]
    answers.set()
    await dispatch.tick()
    assert {await node_of(job) for job in trainer.started} == {good.node_id, hanging.node_id}


async def test_many_dispatchers_start_each_run_once(registry: Registry, trainer: FakeTrainer):
    experiment = await registry.experiment()
    for number in range(3):
        await registry.node(f"node-{number}", slots=2)
    for _ in range(6):
        await registry.queued(experiment)
    loops = [Dispatch(registry.db, trainer, DispatchConfig()) for _ in range(3)]

    for _ in range(3):
        await asyncio.gather(*(loop.tick() for loop in loops))

    assert len({job.job_id for job in trainer.started}) == 6
    assert {job.attempt for job in trainer.started} == {1}


async def test_a_kind_that_needs_no_data_is_started_without(
    registry: Registry, trainer: FakeTrainer, dispatch: Dispatch
):
    await registry.queued(spec=job_spec_pb2.JobSpec(tiny_lm=job_spec_pb2.TinyLmSpec()))
    await registry.node(kinds=("tiny_lm",))

    await dispatch.tick()

    assert [(job.dataset_version_id, job.dataset_digest) for job in trainer.started] == [("", "")]
