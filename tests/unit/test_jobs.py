"""The jobs of a node: each ends with an end, whoever is killed; nothing is lost, nothing runs twice."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path

import pytest

from tests.support.node_jobs import (
    MemorySource,
    events_of,
    fake_jobs,
    gapless,
    gone,
    lines,
    make_job,
    node_config,
)
from trainer_node.errors import DiskFull, JobNotFound, LeaseLost, NodeFull, OffsetOutOfRange, TrainingKindUnavailable
from tunesmith.v1 import blob_pb2, job_event_pb2, job_spec_pb2, run_pb2, trainer_pb2

STDERR = job_event_pb2.LOG_STREAM_STDERR


def end_of(events: list[job_event_pb2.JobEvent]) -> job_event_pb2.JobFinished:
    assert events[-1].HasField("finished")
    assert not any(event.HasField("finished") for event in events[:-1])
    return events[-1].finished


def is_line(text: str):
    return lambda event: text in event.logs.lines


def some_metrics(count: int):
    return lambda event: event.HasField("metrics") and event.metrics.steps[-1] >= count


async def test_a_job_trains_to_its_end_and_tells_everything_in_order(tmp_path: Path) -> None:
    source = MemorySource()
    digest = source.add_dataset({"a flute": b"flute sound", "a drum": b"drum sound"})
    old = source.add(b"weights of step 5")
    resume_from = run_pb2.Checkpoint(
        step=5, files=[blob_pb2.File(path="adapter.safetensors", digest=old, size_bytes=17)]
    )
    job = make_job("quick", dataset_digest=digest, resume_from=resume_from)

    async with fake_jobs(node_config(tmp_path), source) as jobs:
        await jobs.start(job)
        events = await events_of(jobs, job.job_id)

    assert gapless(events)
    assert end_of(events).HasField("succeeded")
    assert [event.metrics.steps[0] for event in events if event.HasField("metrics")] == list(range(1, 21))
    assert "samples=[('a flute', b'flute sound'), ('a drum', b'drum sound')]" in lines(events)
    assert "resumed='weights of step 5'" in lines(events)
    assert lines(events, STDERR) == ["no newline at the end"]
    kept = end_of(events).succeeded.training_config
    assert (tmp_path / "blobs" / kept.digest[:2] / kept.digest).read_bytes() == b"{}"


async def test_the_training_process_knows_no_grpc_and_no_secret(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TUNESMITH_DATABASE_DSN", "postgres://u:hunter2@db/x")
    monkeypatch.setenv("HF_TOKEN", "hunter2")
    monkeypatch.setenv("HTTPS_PROXY", "http://user:hunter2@proxy:3128")
    job = make_job("quick")

    async with fake_jobs(node_config(tmp_path)) as jobs:
        await jobs.start(job)
        said = lines(await events_of(jobs, job.job_id))

    assert "grpc=False" in said
    (environment,) = [line for line in said if line.startswith("environment=")]
    assert "TUNESMITH" not in environment and "HF_TOKEN" not in environment and "PROXY" not in environment
    assert "hunter2" not in "".join(said)
    assert f"argv={[str(tmp_path.absolute() / 'jobs' / job.job_id)]}" in said


async def test_starting_a_known_job_again_changes_nothing(tmp_path: Path) -> None:
    job = make_job("steady")
    async with fake_jobs(node_config(tmp_path)) as jobs:
        await jobs.start(job)
        await events_of(jobs, job.job_id, until=some_metrics(3))

        again = await jobs.start(job)

        assert again.state == trainer_pb2.JOB_STATE_RUNNING
        assert again.pid == jobs.statuses()[0].pid
        await jobs.stop(job.job_id, 0)
        await events_of(jobs, job.job_id)


async def test_a_stream_gives_the_same_events_after_every_number(tmp_path: Path) -> None:
    job = make_job("quick", steps=40)
    async with fake_jobs(node_config(tmp_path)) as jobs:
        await jobs.start(job)
        whole = await events_of(jobs, job.job_id)

        for after in range(len(whole) + 1):
            assert await events_of(jobs, job.job_id, after) == whole[after:]
        with pytest.raises(OffsetOutOfRange):
            await events_of(jobs, job.job_id, len(whole) + 1)


async def test_silence_is_broken_by_signs_of_life(tmp_path: Path) -> None:
    source = MemorySource()
    source.open.clear()
    job = make_job("quick", dataset_digest=source.add_dataset({"p": b"s"}))
    async with fake_jobs(node_config(tmp_path, heartbeat_s=0.05), source) as jobs:
        await jobs.start(job)

        frames = jobs.events(job.job_id, 0)
        assert [await anext(frames) for _ in range(2)] == [[], []]

        source.open.set()
        await events_of(jobs, job.job_id)


async def test_a_wish_to_stop_ends_in_a_checkpoint(tmp_path: Path) -> None:
    job = make_job("steady")
    async with fake_jobs(node_config(tmp_path)) as jobs:
        await jobs.start(job)
        await events_of(jobs, job.job_id, until=some_metrics(5))

        status = await jobs.stop(job.job_id, 8)
        await jobs.stop(job.job_id, 8)
        events = await events_of(jobs, job.job_id)

        assert status.state == trainer_pb2.JOB_STATE_STOPPING
    (saved,) = [event.checkpoint_saved for event in events if event.HasField("checkpoint_saved")]
    assert end_of(events).cancelled.checkpoint_step == saved.step > 0


async def test_a_training_that_does_not_stop_is_killed_with_its_group_after_the_grace(tmp_path: Path) -> None:
    job = make_job("stubborn")
    async with fake_jobs(node_config(tmp_path)) as jobs:
        await jobs.start(job)
        events = await events_of(jobs, job.job_id, until=lambda event: any("helper" in x for x in event.logs.lines))
        helper = int(lines(events)[-1].split()[1])
        pid = jobs.statuses()[0].pid

        await jobs.stop(job.job_id, 0.3)
        events = await events_of(jobs, job.job_id, within_s=5)

        assert await gone(pid) and await gone(helper)
    assert end_of(events).cancelled.checkpoint_step == 7


async def test_what_a_training_leaves_behind_ends_with_it(tmp_path: Path) -> None:
    job = make_job("forgetful")
    async with fake_jobs(node_config(tmp_path)) as jobs:
        await jobs.start(job)
        events = await events_of(jobs, job.job_id)

        assert await gone(int(lines(events)[-1].split()[1]))


async def test_a_stop_while_the_engine_is_imported_ends_at_once_without_a_checkpoint(tmp_path: Path) -> None:
    job = make_job("slow_import")
    async with fake_jobs(node_config(tmp_path)) as jobs:
        await jobs.start(job)
        await events_of(jobs, job.job_id, until=is_line("importing"))

        await jobs.stop(job.job_id, 60)
        events = await events_of(jobs, job.job_id, within_s=5)

    assert end_of(events).cancelled.checkpoint_step == 0


async def test_a_stop_while_inputs_are_fetched_needs_no_process(tmp_path: Path) -> None:
    source = MemorySource()
    source.open.clear()
    job = make_job("quick", dataset_digest=source.add_dataset({"p": b"s"}))
    async with fake_jobs(node_config(tmp_path), source) as jobs:
        status = await jobs.start(job)
        await jobs.stop(job.job_id, 60)
        events = await events_of(jobs, job.job_id, within_s=5)

    assert status.state == trainer_pb2.JOB_STATE_PREPARING
    assert end_of(events).HasField("cancelled")
    assert not (tmp_path / "jobs" / job.job_id / "child.json").exists()


async def test_inputs_that_are_gone_fail_the_job_with_a_next_step(tmp_path: Path) -> None:
    source = MemorySource()
    job = make_job("quick", dataset_digest=source.add_dataset({"p": b"s"}))
    source.blobs.clear()
    async with fake_jobs(node_config(tmp_path), source) as jobs:
        await jobs.start(job)
        failed = end_of(await events_of(jobs, job.job_id)).failed

    assert failed.reason == "INPUTS_UNAVAILABLE"
    assert "is gone from the control plane; create a new dataset version" in failed.message


async def test_inputs_with_other_bytes_are_never_stored(tmp_path: Path) -> None:
    source = MemorySource()
    digest = source.add_dataset({"p": b"sound"})
    for name in source.blobs:
        if source.blobs[name] == b"sound":
            source.blobs[name] = b"noise"
    job = make_job("quick", dataset_digest=digest)
    async with fake_jobs(node_config(tmp_path), source) as jobs:
        await jobs.start(job)
        failed = end_of(await events_of(jobs, job.job_id)).failed

    assert failed.reason == "INPUTS_UNAVAILABLE"
    assert [path.name for path in (tmp_path / "blobs").glob("??/*")] == [digest]


async def test_a_bug_in_the_training_code_is_one_line_and_its_traceback_is_in_the_log(tmp_path: Path) -> None:
    job = make_job("raising")
    async with fake_jobs(node_config(tmp_path)) as jobs:
        await jobs.start(job)
        events = await events_of(jobs, job.job_id)

    failed = end_of(events).failed
    assert (failed.reason, failed.exit_code) == ("TRAINING_CRASHED", 1)
    assert failed.message.startswith("ValueError: shapes (2, 3) and (4, 5) do not fit")
    assert failed.stderr_tail.startswith("Traceback")
    assert lines(events, STDERR) == failed.stderr_tail.splitlines()


async def test_a_full_disk_is_told_as_such(tmp_path: Path) -> None:
    job = make_job("full")
    async with fake_jobs(node_config(tmp_path)) as jobs:
        await jobs.start(job)
        failed = end_of(await events_of(jobs, job.job_id)).failed

    assert failed.reason == "DISK_FULL"
    assert "free some space" in failed.message


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
        await events_of(jobs, job.job_id, until=some_metrics(20))

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
        await events_of(jobs, job.job_id, until=some_metrics(1))

        counter.write_text("oom 5\noom_kill 5\n")
        os.kill(jobs.statuses()[0].pid, signal.SIGKILL)
        failed = end_of(await events_of(jobs, job.job_id)).failed

    assert failed.reason == "OUT_OF_MEMORY"
    assert "reduce batch_size from 8 to 4" in failed.message


async def test_a_restarted_service_takes_the_running_process_over_and_the_stream_goes_on(tmp_path: Path) -> None:
    job, config = make_job("steady"), node_config(tmp_path)
    async with fake_jobs(config) as jobs:
        await jobs.start(job)
        before = await events_of(jobs, job.job_id, until=some_metrics(10))
        pid = jobs.statuses()[0].pid

    async with fake_jobs(config) as jobs:
        (status,) = jobs.statuses()
        after = await events_of(jobs, job.job_id, before[-1].seq, until=some_metrics(30))
        await jobs.stop(job.job_id, 8)
        rest = await events_of(jobs, job.job_id, after[-1].seq)

    assert (status.pid, status.state) == (pid, trainer_pb2.JOB_STATE_RUNNING)
    assert gapless(before + after + rest)
    assert end_of(rest).HasField("cancelled")


async def test_a_process_that_died_while_the_service_was_away_gets_its_end(tmp_path: Path) -> None:
    job, config = make_job("steady"), node_config(tmp_path)
    async with fake_jobs(config) as jobs:
        await jobs.start(job)
        await events_of(jobs, job.job_id, until=some_metrics(10))
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
        await events_of(jobs, job.job_id, until=some_metrics(3))
        pid = jobs.statuses()[0].pid
    child = tmp_path / "jobs" / job.job_id / "child.json"
    introduced = child.read_text()
    child.unlink()  # as if the process had not come to introduce itself yet

    async with fake_jobs(config) as jobs:
        second = jobs.statuses()[0].pid
        await asyncio.sleep(0.1)
        child.write_text(introduced)
        async with asyncio.timeout(10):
            while jobs.statuses()[0].pid != pid:  # noqa: ASYNC110 - the service learns it from a process
                await asyncio.sleep(0.02)
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


async def test_a_slot_is_taken_from_acceptance_to_the_end(tmp_path: Path) -> None:
    source = MemorySource()
    source.open.clear()
    waiting = make_job("quick", run="a", dataset_digest=source.add_dataset({"p": b"s"}))
    other = make_job("quick", run="b")
    async with fake_jobs(node_config(tmp_path, slots=1), source) as jobs:
        await jobs.start(waiting)
        with pytest.raises(NodeFull, match="all 1 slots are taken"):
            await jobs.start(other)

        source.open.set()
        await events_of(jobs, waiting.job_id)
        await jobs.start(other)

        assert end_of(await events_of(jobs, other.job_id)).HasField("succeeded")


async def test_what_a_node_cannot_train_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    unknown = trainer_pb2.Job(job_id=make_job("x").job_id, run_id=make_job("x").run_id, attempt=1)
    unknown.spec.CopyFrom(job_spec_pb2.JobSpec(tiny_lm={}))
    async with fake_jobs(node_config(tmp_path)) as jobs:
        with pytest.raises(TrainingKindUnavailable, match="it trains: supervised"):
            await jobs.start(unknown)
    async with fake_jobs(node_config(tmp_path, min_free_bytes=10**18)) as jobs:
        with pytest.raises(DiskFull, match="MB are free"):
            await jobs.start(make_job("quick"))
        with pytest.raises(JobNotFound):
            await jobs.stop(unknown.job_id, 1)
        with pytest.raises(JobNotFound):
            jobs.events(unknown.job_id, 0)

    assert list((tmp_path / "jobs").iterdir()) == []


async def test_ended_jobs_are_forgotten_in_the_end(tmp_path: Path) -> None:
    job, config = make_job("quick"), node_config(tmp_path)
    async with fake_jobs(config) as jobs:
        await jobs.start(job)
        await events_of(jobs, job.job_id)

    async with fake_jobs(node_config(tmp_path, keep_ended_s=0.0)) as jobs:
        async with asyncio.timeout(5):
            while jobs.statuses():  # noqa: ASYNC110 - done by the node itself
                await asyncio.sleep(0.01)

    assert not (tmp_path / "jobs" / job.job_id).exists()
