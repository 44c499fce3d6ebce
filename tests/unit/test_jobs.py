"""The jobs of a node: each ends with an end, whoever is killed; nothing is lost, nothing runs twice."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from tests.support.node_jobs import (
    MemorySource,
    end_of,
    events_of,
    eventually,
    fake_jobs,
    gapless,
    gone,
    has_line,
    has_step,
    lines,
    make_job,
    node_config,
    settled,
)
from trainer_node.blob_folder import BlobFolder
from trainer_node.errors import DiskFull, JobNotFound, NodeFull, OffsetOutOfRange, TrainingKindUnavailable
from tunesmith.v1 import blob_pb2, job_event_pb2, job_spec_pb2, run_pb2, trainer_pb2

STDERR = job_event_pb2.LOG_STREAM_STDERR


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


async def test_a_job_is_given_comparisons_and_the_adapter_to_start_from(tmp_path: Path) -> None:
    source = MemorySource()
    digest = source.add_comparisons({"a flute": [b"good", b"bad"], "a drum": [b"best", b"good", b"worst"]})
    files = [
        blob_pb2.File(path=name, digest=source.add(data), size_bytes=len(data))
        for name, data in {"adapter_config.json": b"{}", "adapter_model.safetensors": b"matrices"}.items()
    ]
    job = make_job("quick", dataset_digest=digest, start_adapter={"files": files})

    async with fake_jobs(node_config(tmp_path), source) as jobs:
        await jobs.start(job)
        said = lines(await events_of(jobs, job.job_id))

    assert "compared=[('a flute', b'good', 1), ('a flute', b'bad', 2)]" in said
    assert "compared=[('a drum', b'best', 1), ('a drum', b'good', 2), ('a drum', b'worst', 3)]" in said
    assert "start_adapter=[('adapter_config.json', b'{}'), ('adapter_model.safetensors', b'matrices')]" in said
    assert "samples=[]" in said


async def test_an_adapter_that_was_damaged_on_the_disk_is_fetched_again_by_a_resume(tmp_path: Path) -> None:
    source, config = MemorySource(), node_config(tmp_path)
    matrices = blob_pb2.File(path="adapter_model.safetensors", digest=source.add(b"matrices"), size_bytes=8)
    blobs = BlobFolder(config.blobs_dir)
    blobs.path(blobs.put_bytes(b"matrices")).write_bytes(b"rubbish!")
    first, resumed = (make_job("quick", attempt=n, start_adapter={"files": [matrices]}) for n in (1, 2))

    async with fake_jobs(config, source) as jobs:
        await jobs.start(first)
        failed = end_of(await events_of(jobs, first.job_id)).failed
        await jobs.start(resumed)
        end = end_of(await events_of(jobs, resumed.job_id))

    assert failed.reason == "INPUTS_UNAVAILABLE"
    assert "damaged on the disk of this node; resume the run, or create a new one, to fetch it again" in failed.message
    assert end.HasField("succeeded")


async def test_the_data_folder_may_be_given_as_a_relative_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    source = MemorySource()
    job = make_job("quick", dataset_digest=source.add_dataset({"a flute": b"flute sound"}))

    async with fake_jobs(node_config(Path("data")), source) as jobs:
        await jobs.start(job)
        events = await events_of(jobs, job.job_id)

    assert end_of(events).HasField("succeeded")


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


async def test_the_threads_of_a_training_process_sleep_while_they_wait(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OMP_WAIT_POLICY", raising=False)
    monkeypatch.delenv("GOMP_SPINCOUNT", raising=False)
    job = make_job("quick")

    async with fake_jobs(node_config(tmp_path)) as jobs:
        await jobs.start(job)
        said = lines(await events_of(jobs, job.job_id))

    assert "waiting=passive,0" in said


async def test_starting_a_known_job_again_changes_nothing(tmp_path: Path) -> None:
    job = make_job("steady")
    async with fake_jobs(node_config(tmp_path)) as jobs:
        await jobs.start(job)
        await events_of(jobs, job.job_id, until=has_step(3))

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
        await events_of(jobs, job.job_id, until=has_step(5))

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
        await events_of(jobs, job.job_id, until=has_line("importing"))

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


@pytest.mark.parametrize(
    ("gone", "next_step"),
    [
        (b"weights", "the checkpoint at step 5 is of no use: resume the run from an earlier checkpoint_step"),
        (b'"prompt"', "create a data set version of the same samples again"),
        (b"sound", "import the clips of its data set again"),
        (b"matrices", "the adapter to start from is of no use: create a run that starts from another one"),
    ],
)
async def test_inputs_that_are_gone_fail_the_job_with_a_next_step_that_helps(
    tmp_path: Path, gone: bytes, next_step: str
) -> None:
    source = MemorySource()
    digest = source.add_dataset({"p": b"sound"})
    checkpoint = blob_pb2.File(path="adapter.safetensors", digest=source.add(b"weights"), size_bytes=7)
    resume_from = run_pb2.Checkpoint(step=5, files=[checkpoint])
    adapter = blob_pb2.File(path="adapter_model.safetensors", digest=source.add(b"matrices"), size_bytes=8)
    job = make_job("quick", dataset_digest=digest, resume_from=resume_from, start_adapter={"files": [adapter]})
    source.blobs = {name: data for name, data in source.blobs.items() if gone not in data}
    async with fake_jobs(node_config(tmp_path), source) as jobs:
        await jobs.start(job)
        failed = end_of(await events_of(jobs, job.job_id)).failed

    assert failed.reason == "INPUTS_UNAVAILABLE"
    assert f"is gone from the control plane; {next_step}" in failed.message


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
    unknown.spec.CopyFrom(job_spec_pb2.JobSpec())
    async with fake_jobs(node_config(tmp_path)) as jobs:
        with pytest.raises(TrainingKindUnavailable, match=r"it trains: .*supervised"):
            await jobs.start(unknown)
    async with fake_jobs(node_config(tmp_path, min_free_bytes=10**18)) as jobs:
        with pytest.raises(DiskFull, match="MB are free"):
            await jobs.start(make_job("quick"))
        with pytest.raises(JobNotFound):
            await jobs.stop(unknown.job_id, 1)
        with pytest.raises(JobNotFound):
            jobs.events(unknown.job_id, 0)

    assert list((tmp_path / "jobs").iterdir()) == []


async def test_blobs_that_no_job_has_needed_for_long_are_removed_and_fetched_again_when_needed(tmp_path: Path) -> None:
    source, config = MemorySource(), node_config(tmp_path)
    digest = source.add_dataset({"p": b"sound"})
    blobs = BlobFolder(config.blobs_dir)
    old = blobs.put_bytes(b"a checkpoint of last month")
    async with fake_jobs(config, source) as jobs:
        await jobs.start(make_job("quick", dataset_digest=digest))
        await settled(jobs)
    long_ago = time.time() - 8 * 86_400
    for each in (old, digest):
        os.utime(blobs.path(each), (long_ago, long_ago))

    async with fake_jobs(config, source) as jobs:
        await eventually(lambda: len(blobs.missing([old, digest])) == 2)
        again = make_job("quick", run="another", dataset_digest=digest)
        await jobs.start(again)
        end = end_of(await events_of(jobs, again.job_id))

    assert end.HasField("succeeded")
    assert time.time() - blobs.path(digest).stat().st_mtime < 3600, "what is used again counts as new"


async def test_ended_jobs_are_forgotten_in_the_end(tmp_path: Path) -> None:
    job, config = make_job("quick"), node_config(tmp_path)
    async with fake_jobs(config) as jobs:
        await jobs.start(job)
        await events_of(jobs, job.job_id)
        await settled(jobs)

    async with fake_jobs(node_config(tmp_path, keep_ended_s=0.0)) as jobs:
        await eventually(lambda: not jobs.statuses())

    assert not (tmp_path / "jobs" / job.job_id).exists()
