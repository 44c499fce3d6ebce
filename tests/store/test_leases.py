"""Claims, leases and fences: a run has one job at a time, and a lost one is taken back."""

from __future__ import annotations

import asyncio

import psycopg
import pytest

from control_plane.config import DispatchConfig
from control_plane.db.connection import execute
from control_plane.loops.reap import Reap, grant_full_term
from control_plane.runs import store
from control_plane.runs.commands import cancel_run, claim_next, finish_run, give_back, lose_attempt, mark_started
from control_plane.runs.model import Job, RunState
from tests.support.registry import CANCELLED, FAILED, SUCCEEDED, Registry


async def attempts(registry: Registry, job: Job) -> list[tuple[int, str, str | None]]:
    """(number, state, why it ended) of a run's attempts."""
    async with registry.db.connection() as conn:
        cursor = await conn.execute("SELECT * FROM attempts WHERE run_id = %s ORDER BY attempt", (job.run_id,))
        return [(row["attempt"], row["state"], row["end_reason"]) for row in await cursor.fetchall()]


async def test_two_claimers_never_get_the_same_run(registry: Registry):
    experiment = await registry.experiment()
    runs = [await registry.queued(experiment) for _ in range(12)]
    nodes = [await registry.node(f"node-{number}", slots=2) for number in range(6)]

    claims = await asyncio.gather(
        *(claim_next(registry.db, node_id=node.node_id, lease_s=15) for node in nodes for _ in range(4))
    )

    got = [run.run_id for claim in claims if claim for run in claim[:1]]
    assert len(got) == len(set(got))
    assert set(got) <= {run.run_id for run in runs}
    assert len(got) >= len(nodes)


async def test_a_node_never_gets_more_runs_than_it_has_slots(registry: Registry):
    experiment = await registry.experiment()
    for _ in range(10):
        await registry.queued(experiment)
    node = await registry.node(slots=3)

    for _ in range(4):
        await asyncio.gather(*(claim_next(registry.db, node_id=node.node_id, lease_s=15) for _ in range(8)))

    assert await registry.count("jobs WHERE end_time IS NULL") == 3


async def test_higher_priority_goes_first_then_age(registry: Registry):
    experiment = await registry.experiment()
    low, old, young = [await registry.queued(experiment, priority=priority) for priority in (-1, 5, 5)]
    node = await registry.node(slots=3)

    order = [(await registry.claim(node)).run_id for _ in range(3)]

    assert order[2] == low.run_id
    assert order[:2] == sorted([old.run_id, young.run_id])


async def test_a_node_gets_only_kinds_that_it_runs(registry: Registry):
    await registry.queued()
    node = await registry.node(kinds=("dpo",))

    assert await claim_next(registry.db, node_id=node.node_id, lease_s=15) is None
    assert await claim_next(registry.db, node_id="nod_unknown", lease_s=15) is None


async def test_a_run_that_has_ended_has_no_live_lease(registry: Registry):
    run, _ = await registry.running()

    with pytest.raises(psycopg.errors.ForeignKeyViolation):
        async with registry.db.transaction() as conn:
            await store.move(conn, run, RunState.CANCELLED, actor="a bug")

    assert (await registry.get(run)).state is RunState.RUNNING


async def test_a_lost_nodes_run_is_queued_again_and_goes_on_from_its_checkpoint(registry: Registry):
    run, first = await registry.running()
    await registry.checkpoint(first, 10)
    await registry.lapse(first)
    reap = Reap(registry.db, DispatchConfig())
    await reap.tick()  # the first look grants a full term
    await registry.lapse(first)

    await reap.tick()

    waiting = await registry.get(run)
    assert (waiting.state, waiting.lost_attempts) == (RunState.QUEUED, 1)
    assert "nothing was heard of its node" in waiting.state_reason
    claimed = await claim_next(registry.db, node_id=first.node_id, lease_s=15)
    assert claimed is not None and claimed[2] is not None
    assert (claimed[0].attempt, claimed[1].attempt, claimed[2].step) == (2, 2, 10)
    assert await attempts(registry, first) == [(1, "ended", "node_lost"), (2, "leased", None)]


async def test_a_run_that_lost_five_nodes_fails(registry: Registry):
    run = await registry.queued()
    node = await registry.node()
    for _ in range(5):
        assert (await registry.get(run)).state is RunState.QUEUED
        await lose_attempt(registry.db, await registry.claim(node), "silence")

    ended = await registry.get(run)
    assert (ended.state, ended.lost_attempts) == (RunState.FAILED, 5)
    assert ended.failure is not None
    assert ended.failure.reason == "NODE_LOST"


async def test_a_lost_run_that_was_asked_to_stop_is_cancelled(registry: Registry):
    run, job = await registry.running()
    await cancel_run(registry.db, run_id=run.run_id)

    await lose_attempt(registry.db, job, "silence")

    assert (await registry.get(run)).state is RunState.CANCELLED


async def test_a_job_that_was_heard_of_meanwhile_is_not_lost(registry: Registry):
    run, job = await registry.running()

    assert await lose_attempt(registry.db, job, "silence", if_expired=True) is None

    assert await registry.get(run) == run


async def test_a_job_is_lost_once_though_many_reap(registry: Registry):
    run, job = await registry.running()
    await registry.lapse(job)

    await asyncio.gather(*(lose_attempt(registry.db, job, "silence", if_expired=True) for _ in range(6)))

    assert (await registry.get(run)).lost_attempts == 1


async def test_a_run_that_is_given_back_costs_it_nothing(registry: Registry):
    run, job = await registry.claimed()

    await give_back(registry.db, job, "no room")

    again = await registry.get(run)
    assert (again.state, again.lost_attempts, again.state_reason) == (RunState.QUEUED, 0, "no room")
    assert await attempts(registry, job) == [(1, "ended", "given_back")]
    assert await give_back(registry.db, job, "no room") is None


async def test_a_node_out_of_sight_is_noted_and_its_run_goes_on(registry: Registry):
    run, job = await registry.running()
    await mark_started(registry.db, job)
    reap = Reap(registry.db, DispatchConfig())
    await reap.tick()

    async def after(lease: str) -> list[tuple[int, str, str | None]]:
        async with registry.db.transaction() as conn:
            await conn.execute("UPDATE jobs SET lease_until = now() + %s::interval", (lease,))
        await reap.tick()
        return await attempts(registry, job)

    assert await after("5 seconds") == [(1, "unreachable", None)]
    assert await registry.get(run) == run
    assert await after("15 seconds") == [(1, "training", None)]


async def test_after_a_start_every_lease_first_gets_a_full_term(registry: Registry):
    run, job = await registry.running()
    await registry.lapse(job)

    await Reap(registry.db, DispatchConfig()).tick()

    assert await registry.get(run) == run
    assert await registry.count("jobs WHERE lease_until > now() + interval '14 seconds'") == 1


async def test_after_an_outage_every_lease_first_gets_a_full_term(registry: Registry):
    run, job = await registry.running()
    now = 1000.0
    reap = Reap(registry.db, DispatchConfig(), clock=lambda: now)
    await reap.tick()
    await registry.lapse(job)

    now += 60
    await reap.tick()

    assert await registry.get(run) == run
    await registry.lapse(job)
    now += 1
    await reap.tick()
    assert (await registry.get(run)).state is RunState.QUEUED


async def test_a_lease_is_never_shortened(registry: Registry):
    await registry.running()
    async with registry.db.transaction() as conn:
        await execute(conn, "UPDATE jobs SET lease_until = now() + interval '1 hour'")

    assert await grant_full_term(registry.db, 15) == 1

    assert await registry.count("jobs WHERE lease_until > now() + interval '50 minutes'") == 1


async def test_whoever_wins_a_race_between_loss_and_end_the_run_has_one_end(registry: Registry):
    experiment = await registry.experiment()
    node = await registry.node(slots=16)
    for ending in [SUCCEEDED, FAILED] * 4:
        await registry.queued(experiment)
        job = await registry.claim(node)
        await registry.begin(job)

        outcomes = await asyncio.gather(
            registry.finish(job, ending),
            lose_attempt(registry.db, job, "silence"),
            cancel_run(registry.db, run_id=job.run_id),
            return_exceptions=True,
        )

        run = await registry.get(job)
        assert run.state in (RunState.SUCCEEDED, RunState.FAILED, RunState.CANCELLED, RunState.QUEUED), outcomes
        assert await registry.count("jobs WHERE end_time IS NULL") == 0
        if run.state is RunState.QUEUED:
            await cancel_run(registry.db, run_id=job.run_id)


async def test_a_run_whose_process_was_stopped_by_something_else_goes_on_from_its_checkpoint(registry: Registry):
    run, job = await registry.running()
    await registry.checkpoint(job, 20)

    ended = await registry.finish(job, CANCELLED)
    claimed = await claim_next(registry.db, node_id=job.node_id, lease_s=15)

    assert ended.state is RunState.QUEUED and "nobody cancelled it" in ended.state_reason
    assert claimed is not None and claimed[2] is not None
    assert (claimed[0].run_id, claimed[0].attempt, claimed[2].step) == (run.run_id, 2, 20)


async def test_a_run_whose_process_is_stopped_by_something_else_as_often_as_is_allowed_fails(registry: Registry):
    _, job = await registry.running()

    async with registry.db.transaction() as conn:
        ended = await finish_run(conn, job, CANCELLED, None, "ingest", max_lost_attempts=1)

    assert ended.state is RunState.FAILED and ended.failure is not None
    assert ended.failure.reason == "NODE_LOST" and "resume the run" in ended.failure.message
