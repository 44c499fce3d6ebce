"""What `apply_events` promises: each event once, none of a stale attempt, and nothing that blocks."""

from __future__ import annotations

import asyncio
import math
from typing import Any

import pytest
import structlog

from control_plane.db.connection import execute, fetch_all
from control_plane.db.notify import run_topic
from control_plane.db.pool import Database
from control_plane.errors import LeaseLost
from control_plane.runs import commands as runs
from control_plane.runs.model import Job, RunState
from control_plane.telemetry import store
from control_plane.telemetry.commands import Applied, apply_events, renew_lease
from control_plane.telemetry.model import BUCKET_STEPS, EventGap
from control_plane.telemetry.rollup import EXTREMES
from tests.support.fakes import InMemoryBlobs
from tests.support.telemetry_load import end_run, logs_event, make_job, metrics_event
from tunesmith.v1 import blob_pb2, job_event_pb2


async def apply(db: Database, job: Job, *events: job_event_pb2.JobEvent, blobs: InMemoryBlobs | None = None) -> Applied:
    return await apply_events(db, blobs or InMemoryBlobs(), job, events, lease_s=15)


async def rows(db: Database, sql: str) -> list[tuple[Any, ...]]:
    async with db.connection() as conn:
        return [tuple(row.values()) for row in await fetch_all(conn, sql)]


async def metrics(db: Database) -> list[tuple[Any, ...]]:
    return await rows(db, "SELECT step, attempt, seq, vals FROM metric_steps ORDER BY set_id, step")


async def lines(db: Database) -> list[str]:
    found = await rows(db, "SELECT text FROM log_lines ORDER BY run_id, attempt, rank, seq, line")
    return [text for (text,) in found]


async def losses(db: Database) -> list[tuple[Any, ...]]:
    return await rows(db, "SELECT seq, lost, reason FROM telemetry_losses ORDER BY seq")


async def recomputed(db: Database) -> list[tuple[Any, ...]]:
    """Rollups as they would be computed from the steps."""
    return await rows(
        db,
        f"SELECT set_id, position, step / {BUCKET_STEPS} AS bucket, {EXTREMES} "
        "FROM metric_steps CROSS JOIN LATERAL unnest(vals) WITH ORDINALITY AS v (value, position) "
        "GROUP BY 1, 2, 3 ORDER BY 1, 2, 3",
    )


async def rollups(db: Database) -> list[tuple[Any, ...]]:
    return await rows(
        db,
        "SELECT set_id, position, bucket, points, min_value, min_step, max_value, max_step, non_finite_points, "
        "non_finite_step FROM metric_rollups ORDER BY 1, 2, 3",
    )


def curve(seq: int, first: int, count: int) -> job_event_pb2.JobEvent:
    """`count` steps of two metrics."""
    steps = range(first, first + count)
    return metrics_event(seq, {"loss": [1 / (s + 1) for s in steps], "lr": [math.sin(s) for s in steps]}, steps)


async def test_a_batch_that_comes_twice_is_stored_once(db):
    job = await make_job(db)
    events = [curve(1, 0, 10), logs_event(2, ["a", "b"]), curve(3, 10, 10)]

    first = await apply(db, job, *events)
    before = await metrics(db), await lines(db), await rollups(db)
    second = await apply(db, job, *events)

    assert (await metrics(db), await lines(db), await rollups(db)) == before
    assert first == second == Applied(last_seq=3, ended=False)
    assert len(before[0]) == 20 and before[1] == ["a", "b"]


async def test_overlapping_batches_store_every_event_once(db):
    job = await make_job(db)
    events = [logs_event(seq, [f"line {seq}"]) for seq in range(1, 8)]

    for first, last in ((0, 3), (1, 5), (4, 5), (3, 7), (0, 7)):
        await apply(db, job, *events[first:last])

    assert await lines(db) == [f"line {seq}" for seq in range(1, 8)]


async def test_a_batch_that_is_interrupted_leaves_nothing_and_is_stored_when_it_comes_again(db, monkeypatch):
    job = await make_job(db)

    async def crash(*_: object, **__: object) -> None:
        raise ConnectionResetError("killed before the commit")

    with monkeypatch.context() as patch:
        patch.setattr(store, "advance", crash)
        with pytest.raises(ConnectionResetError):
            await apply(db, job, curve(1, 0, 10), logs_event(2, ["a"]))
    left = await metrics(db), await lines(db), await rollups(db), await rows(db, "SELECT last_seq FROM jobs")
    await apply(db, job, curve(1, 0, 10), logs_event(2, ["a"]))

    assert left == ([], [], [], [(0,)])
    assert len(await metrics(db)) == 10 and await lines(db) == ["a"]


async def test_two_control_planes_that_follow_the_same_job_store_every_event_once(db):
    job = await make_job(db)
    events = [logs_event(seq, [f"line {seq}"]) for seq in range(1, 41)]

    async def follow(size: int) -> None:
        at = 0
        while at < len(events):
            at = (await apply(db, job, *events[at : at + size])).last_seq

    await asyncio.gather(follow(3), follow(5), follow(1))

    assert await lines(db) == [f"line {seq}" for seq in range(1, 41)]


async def test_a_gap_is_an_error_and_stores_nothing(db):
    job = await make_job(db)
    await apply(db, job, logs_event(1, ["a"]))

    with pytest.raises(EventGap, match=r"event 3 .* where 2"):
        await apply(db, job, logs_event(3, ["c"]))
    with pytest.raises(EventGap):
        await apply(db, job, logs_event(2, ["b"]), logs_event(4, ["d"]))

    assert await lines(db) == ["a"]


async def test_a_stale_attempt_writes_nothing(db):
    stale = await make_job(db)
    await apply(db, stale, logs_event(1, ["from the first"]))
    current = await make_job(db, run_id=stale.run_id, attempt=2)

    with pytest.raises(LeaseLost):
        await apply(db, stale, curve(2, 0, 5), logs_event(3, ["late"]))
    with pytest.raises(LeaseLost):
        await renew_lease(db, stale, lease_s=15)
    await apply(db, current, logs_event(1, ["from the second"]))

    assert await lines(db) == ["from the first", "from the second"] and not await metrics(db)


async def test_a_late_success_of_a_lost_node_does_not_finish_the_run(registry):
    run, job = await registry.running()
    await runs.lose_attempt(registry.db, job, "nothing was heard of it")
    finished = job_event_pb2.JobEvent(seq=1, finished=job_event_pb2.JobFinished(cancelled=job_event_pb2.JobCancelled()))

    with pytest.raises(LeaseLost):
        await apply(registry.db, job, finished, blobs=registry.blobs)

    assert (await registry.get(run)).state is RunState.QUEUED


async def test_an_ended_job_answers_a_repeated_batch_and_refuses_a_new_event(db):
    job = await make_job(db)
    await apply(db, job, logs_event(1, ["a"]))
    await end_run(db, job.run_id)

    again = await apply(db, job, logs_event(1, ["a"]))
    with pytest.raises(LeaseLost):
        await apply(db, job, logs_event(2, ["b"]))

    assert again == Applied(last_seq=1, ended=True)


async def test_a_later_attempt_replaces_the_steps_that_it_repeats(db):
    first = await make_job(db)
    await apply(db, first, metrics_event(1, {"loss": [9.0, 8.0, 7.0]}, [0, 1, 2]))
    second = await make_job(db, run_id=first.run_id, attempt=2)

    await apply(db, second, metrics_event(1, {"loss": [0.8, 0.7, 0.6]}, [1, 2, 3]))

    kept = [(0, 1, 1, [9.0]), (1, 2, 1, [0.8]), (2, 2, 1, [0.7]), (3, 2, 1, [0.6])]
    assert await metrics(db) == kept
    assert await rollups(db) == await recomputed(db)


async def test_of_a_step_that_one_batch_holds_twice_the_last_counts(db):
    job = await make_job(db)

    await apply(db, job, metrics_event(1, {"loss": [1.0, 2.0]}, [5, 5]), metrics_event(2, {"loss": [3.0]}, [5]))

    assert await metrics(db) == [(5, 1, 2, [3.0])]


async def test_a_metric_that_stands_in_two_sets_has_one_value_a_step_the_last(db):
    job = await make_job(db)
    await apply(db, job, metrics_event(1, {"loss": [1.0, 1.1], "lr": [0.1, 0.1]}, [5, 6]))

    await apply(db, job, metrics_event(2, {"loss": [2.0], "margin": [0.5]}, [5]))
    beaten = await metrics(db)
    await apply(db, job, metrics_event(3, {"loss": [3.0], "lr": [0.3]}, [5]))

    assert beaten == [(5, 1, 1, [None, 0.1]), (6, 1, 1, [1.1, 0.1]), (5, 1, 2, [2.0, 0.5])]
    assert await metrics(db) == [(5, 1, 3, [3.0, 0.3]), (6, 1, 1, [1.1, 0.1]), (5, 1, 2, [None, 0.5])]
    assert await rollups(db) == await recomputed(db)


async def test_rollups_equal_a_recomputation_however_batches_are_cut_and_repeated(db):
    first = await make_job(db)
    cuts = ((0, 1), (1, 300), (301, 3), (290, 30), (1000, 700), (255, 2))
    for seq, (start, count) in enumerate(cuts, 1):
        await apply(db, first, curve(seq, start, count))
    second = await make_job(db, run_id=first.run_id, attempt=2)
    odd = metrics_event(1, {"loss": [math.nan, math.inf, -math.inf], "lr": [0.0, -0.0, 1.0]}, [250, 256, 1500])
    await apply(db, second, odd, curve(2, 1600, 200))

    assert await rollups(db) == await recomputed(db)
    assert [row[-2] for row in await rollups(db) if row[1] == 1][:2] == [1, 1]


async def test_values_are_stored_as_they_were_measured(db):
    job = await make_job(db)
    measured = [math.nan, math.inf, -math.inf, 0.1 + 0.2, 5e-324, -0.0, 1.7976931348623157e308]

    await apply(db, job, metrics_event(1, {"loss": measured}, range(7)))

    stored = [values[0] for _, _, _, values in await metrics(db)]
    assert math.isnan(stored[0]) and stored[1:] == measured[1:]
    assert math.copysign(1, stored[5]) == -1


async def test_nul_is_replaced_in_lines_and_names(db):
    job = await make_job(db)

    await apply(db, job, logs_event(1, ["a\0b", "é 音 🎵"]), metrics_event(2, {"lo\0ss": [1.0]}, [0]))

    assert await lines(db) == ["a\ufffdb", "é 音 🎵"]
    assert await rows(db, "SELECT names FROM metric_sets") == [(["lo\ufffdss"],)]


async def test_a_malformed_batch_is_counted_and_logged_and_does_not_block_the_rest(db):
    job = await make_job(db)
    broken = job_event_pb2.MetricBatch(names=["loss"], steps=[1, 2], times_us=[1], values=[1.0])

    with structlog.testing.capture_logs() as logs:
        applied = await apply(
            db, job, curve(1, 0, 3), job_event_pb2.JobEvent(seq=2, metrics=broken), logs_event(3, ["on"])
        )

    assert applied.last_seq == 3 and len(await metrics(db)) == 3 and await lines(db) == ["on"]
    assert [(seq, lost) for seq, lost, _ in await losses(db)] == [(2, 1)]
    assert [entry["event"] for entry in logs] == ["telemetry_lost"]


async def test_rows_that_the_database_refuses_are_counted_and_all_others_stored(db):
    job = await make_job(db)
    async with db.transaction() as conn:
        await execute(conn, "ALTER TABLE metric_steps ADD CHECK (step NOT IN (13, 666))")
        await execute(conn, "ALTER TABLE log_lines ADD CHECK (text <> 'poison')")

    await apply(db, job, curve(1, 0, 500), logs_event(2, ["a", "poison", "b"]), curve(3, 500, 500))

    assert [step for step, *_ in await metrics(db)] == [step for step in range(1000) if step not in (13, 666)]
    assert await lines(db) == ["a", "b"]
    assert [(seq, lost) for seq, lost, _ in await losses(db)] == [(1, 2), (2, 1), (3, 2)]
    assert "check" in (await losses(db))[0][2]
    assert await rollups(db) == await recomputed(db)


async def test_a_batch_of_nothing_but_poison_is_given_up_in_bounded_time(db):
    job = await make_job(db)
    async with db.transaction() as conn:
        await execute(conn, "ALTER TABLE metric_steps ADD CHECK (step < 0)")

    await apply(db, job, curve(1, 0, 3000), logs_event(2, ["on"]))

    assert [(seq, lost) for seq, lost, _ in await losses(db)] == [(1, 6000)]
    assert await lines(db) == ["on"]


async def test_a_run_keeps_a_bounded_number_of_metrics(db):
    job = await make_job(db)
    wide = [metrics_event(seq, {f"m{seq}/{i}": [1.0] for i in range(700)}, [0]) for seq in (1, 2, 3)]

    await apply(db, job, *wide, metrics_event(4, {"m1/0": [2.0]}, [1]))

    assert [(seq, lost) for seq, lost, _ in await losses(db)] == [(3, 700)]
    assert len(await metrics(db)) == 3


async def test_the_lease_is_renewed_with_every_batch_and_heartbeat(registry):
    _, job = await registry.running()

    async def expired() -> bool:
        return (await rows(registry.db, "SELECT lease_until < now() FROM jobs"))[0][0]

    await registry.lapse(job)
    before = await expired()
    await apply(registry.db, job, logs_event(1, ["a"]))
    after_batch = await expired()
    await registry.lapse(job)
    await renew_lease(registry.db, job, lease_s=15)

    assert before and not after_batch and not await expired()


async def test_progress_goes_on_with_each_batch_and_back_with_a_new_attempt(registry):
    run, job = await registry.claimed()

    async def step() -> int:
        return (await registry.get(run)).step

    def begun(seq: int, resumed_step: int) -> job_event_pb2.JobEvent:
        started = job_event_pb2.JobStarted(total_steps=100, total_epochs=10, resumed_step=resumed_step, device="c\0pu")
        return job_event_pb2.JobEvent(seq=seq, started=started)

    await apply(registry.db, job, begun(1, 0), curve(2, 0, 51))
    running, first = await registry.get(run), await step()
    await apply(registry.db, job, metrics_event(3, {"eval_loss": [1.0]}, [40]))
    second = await step()
    await runs.lose_attempt(registry.db, job, "nothing was heard of it")
    again = await registry.claim(await registry.node("node-2"))
    await apply(registry.db, again, begun(1, 30), curve(2, 30, 5))

    assert running.state is RunState.RUNNING and (running.total_steps, running.total_epochs) == (100, 10)
    assert (first, second, await step()) == (50, 50, 34)


async def test_watchers_of_the_run_are_woken(db):
    job = await make_job(db)

    with db.hub.subscribe(run_topic(job.run_id)) as woken:
        await apply(db, job, logs_event(1, ["a"]))

    assert woken.is_set()


async def test_checkpoints_and_previews_are_registered_when_their_files_are_here(registry):
    _, job = await registry.running()
    here = await registry.blobs.put_bytes(b"weights")
    file = blob_pb2.File(path="adapter.safetensors", digest=here, size_bytes=7)
    gone = blob_pb2.File(path="adapter.safetensors", digest="0" * 64, size_bytes=7)

    def checkpoint(seq: int, step: int, one: blob_pb2.File) -> job_event_pb2.JobEvent:
        saved = job_event_pb2.CheckpointSaved(step=step, epoch=1.5, eval_loss=0.7, best=True, files=[one])
        return job_event_pb2.JobEvent(seq=seq, checkpoint_saved=saved)

    def preview(seq: int, step: int, one: blob_pb2.File) -> job_event_pb2.JobEvent:
        saved = job_event_pb2.PreviewSaved(step=step, prompt="a flute\0", seed=7, duration_s=2, file=one)
        return job_event_pb2.JobEvent(seq=seq, preview_saved=saved)

    await apply(
        registry.db,
        job,
        checkpoint(1, 10, file),
        checkpoint(2, 20, gone),
        preview(3, 10, file),
        preview(4, 20, gone),
        blobs=registry.blobs,
    )

    assert await rows(registry.db, "SELECT step, epoch, eval_loss, best FROM checkpoints") == [(10, 1.5, 0.7, True)]
    assert await rows(registry.db, "SELECT step, prompt, seed FROM previews") == [(10, "a flute\ufffd", 7)]
    assert [seq for seq, *_ in await losses(registry.db)] == [2, 4]
    assert all("does not have" in why for *_, why in await losses(registry.db))
