"""A node's jobs through kills and restarts: of the training, of the service, and of an attempt by the next."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path

import pytest

from tests.support.node_jobs import (
    end_of,
    events_of,
    eventually,
    fake_jobs,
    gapless,
    gone,
    has_step,
    lines,
    make_job,
    node_config,
)
from trainer_node.errors import LeaseLost
from tunesmith.v1 import trainer_pb2


async def test_a_process_that_leaves_without_a_word_gets_its_end_written(tmp_path: Path) -> None:
    job = make_job("vanishing")
    async with fake_jobs(node_config(tmp_path)) as jobs:
        await jobs.start(job)
        failed = end_of(await events_of(jobs, job.job_id)).failed

    assert (failed.reason, failed.exit_code, failed.stderr_tail) == ("PROCESS_DIED", 3, "last words")


async def test_a_killed_training_loses_no_log_line(tmp_path: Path) -> None:
    job = make_job("steady")
    async with fake_jobs(node_config(tmp_path)) as jobs:
        await jobs.start(job)
        await events_of(jobs, job.job_id, until=has_step(20))

        os.kill(jobs.statuses()[0].pid, signal.SIGKILL)
        events = await events_of(jobs, job.job_id)

    assert gapless(events)
    failed = end_of(events).failed
    assert (failed.reason, failed.exit_code) == ("PROCESS_DIED", -9)
    assert "killed by signal 9 (SIGKILL)" in failed.message
    assert lines(events) == (tmp_path / "jobs" / job.job_id / "stdout.log").read_text().splitlines()


async def test_a_kill_that_the_memory_counter_knows_of_names_the_remedy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    counter = tmp_path / "memory.events"
    counter.write_text("oom 4\noom_kill 4\n")
    monkeypatch.setattr("trainer_node.spawn.oom_counter", lambda: str(counter))
    job = make_job("steady")
    async with fake_jobs(node_config(tmp_path)) as jobs:
        await jobs.start(job)
        await events_of(jobs, job.job_id, until=has_step(1))

        counter.write_text("oom 5\noom_kill 5\n")
        os.kill(jobs.statuses()[0].pid, signal.SIGKILL)
        failed = end_of(await events_of(jobs, job.job_id)).failed

    assert failed.reason == "OUT_OF_MEMORY"
    assert "reduce batch_size from 8 to 4" in failed.message


async def test_a_restarted_service_takes_the_running_process_over_and_the_stream_goes_on(tmp_path: Path) -> None:
    job, config = make_job("steady"), node_config(tmp_path)
    async with fake_jobs(config) as jobs:
        await jobs.start(job)
        before = await events_of(jobs, job.job_id, until=has_step(10))
        pid = jobs.statuses()[0].pid

    async with fake_jobs(config) as jobs:
        (status,) = jobs.statuses()
        after = await events_of(jobs, job.job_id, before[-1].seq, until=has_step(30))
        await jobs.stop(job.job_id, 8)
        rest = await events_of(jobs, job.job_id, after[-1].seq)

    assert (status.pid, status.state) == (pid, trainer_pb2.JOB_STATE_RUNNING)
    assert gapless(before + after + rest)
    assert end_of(rest).HasField("cancelled")


async def test_a_process_that_died_while_the_service_was_away_gets_its_end(tmp_path: Path) -> None:
    job, config = make_job("steady"), node_config(tmp_path)
    async with fake_jobs(config) as jobs:
        await jobs.start(job)
        await events_of(jobs, job.job_id, until=has_step(10))
        pid = jobs.statuses()[0].pid
    os.kill(pid, signal.SIGKILL)
    assert await gone(pid)

    async with fake_jobs(config) as jobs:
        events = await events_of(jobs, job.job_id)

    assert gapless(events)
    assert end_of(events).failed.reason == "PROCESS_DIED"
    assert lines(events) == (tmp_path / "jobs" / job.job_id / "stdout.log").read_text().splitlines()


async def test_a_wish_to_stop_survives_the_service(tmp_path: Path) -> None:
    job, config = make_job("stubborn"), node_config(tmp_path)
    async with fake_jobs(config) as jobs:
        await jobs.start(job)
        await events_of(jobs, job.job_id, until=lambda event: event.HasField("checkpoint_saved"))
        await jobs.stop(job.job_id, 0.5)

    async with fake_jobs(config) as jobs:
        events = await events_of(jobs, job.job_id, within_s=5)

    assert end_of(events).cancelled.checkpoint_step == 7


async def test_a_service_that_died_right_after_the_start_does_not_train_twice(tmp_path: Path) -> None:
    job, config = make_job("steady"), node_config(tmp_path)
    async with fake_jobs(config) as jobs:
        await jobs.start(job)
        await events_of(jobs, job.job_id, until=has_step(3))
        pid = jobs.statuses()[0].pid
    child = tmp_path / "jobs" / job.job_id / "child.json"
    introduced = child.read_text()
    child.unlink()  # as if the process had not come to introduce itself yet

    async with fake_jobs(config) as jobs:
        second = jobs.statuses()[0].pid
        await asyncio.sleep(0.1)
        child.write_text(introduced)
        await eventually(lambda: jobs.statuses()[0].pid == pid)
        await jobs.stop(job.job_id, 8)
        events = await events_of(jobs, job.job_id)

    assert second != pid
    assert gapless(events)
    steps = [event.metrics.steps[0] for event in events if event.HasField("metrics")]
    assert steps == list(range(1, len(steps) + 1))


async def test_a_lower_attempt_is_refused_also_after_a_restart(tmp_path: Path) -> None:
    config = node_config(tmp_path)
    async with fake_jobs(config) as jobs:
        second = make_job("quick", attempt=2)
        await jobs.start(second)
        await events_of(jobs, second.job_id)
        with pytest.raises(LeaseLost):
            await jobs.start(make_job("quick", attempt=1))

    async with fake_jobs(config) as jobs:
        with pytest.raises(LeaseLost, match="attempt 2"):
            await jobs.start(make_job("quick", attempt=1))
        with pytest.raises(LeaseLost):
            await jobs.start(make_job("steady", attempt=2))


async def test_a_higher_attempt_stops_its_predecessor_and_takes_its_slot(tmp_path: Path) -> None:
    first, second = make_job("stubborn", attempt=1), make_job("quick", attempt=2)
    async with fake_jobs(node_config(tmp_path, slots=1)) as jobs:
        await jobs.start(first)
        await events_of(jobs, first.job_id, until=lambda event: event.HasField("checkpoint_saved"))

        await jobs.start(second)

        assert end_of(await events_of(jobs, first.job_id)).HasField("cancelled")
        assert end_of(await events_of(jobs, second.job_id)).HasField("succeeded")
