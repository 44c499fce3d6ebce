"""Runs of generate: who plays, what comes of them, and how their clips are told apart."""

from __future__ import annotations

import asyncio
from typing import Any

import psycopg
import pytest

from control_plane import reports
from control_plane.config import DispatchConfig
from control_plane.db.connection import execute
from control_plane.errors import (
    AdapterNotFound,
    ReportNotReady,
    RunFinished,
    RunNotResumable,
    StartAdapterUnsuitable,
    TrainingKindUnavailable,
)
from control_plane.ids import new_id
from control_plane.loops.dispatch import Dispatch
from control_plane.loops.ingest import Ingest
from control_plane.runs import store
from control_plane.runs.commands import cancel_run, lose_attempt, mark_started, resume_run
from control_plane.runs.model import LEAVES, TAKES, Job, Preview, Run, RunState
from control_plane.telemetry.commands import apply_events
from tests.support.fakes import FakeTrainer
from tests.support.registry import (
    BASE_MODEL,
    CANCELLED,
    FAILED,
    FINGERPRINT,
    KINDS,
    SUCCEEDED,
    Registry,
    generate,
    spec_of,
)
from tunesmith.errors import InvalidField
from tunesmith.v1 import blob_pb2, job_event_pb2, job_spec_pb2

NODE = {"slots": 64, "kinds": KINDS}


async def playing(registry: Registry, spec: job_spec_pb2.JobSpec | None = None) -> Job:
    """A job that plays clips."""
    await registry.queued(spec=spec or generate())
    job = await registry.claim(await registry.node("player", **NODE))
    await registry.begin(job)
    return job


def clip(digest: str, *, prompt_index: int = 0, seed: int = 0) -> job_event_pb2.JobEvent:
    """A clip as its node tells of it; its number is set where it is told."""
    file = blob_pb2.File(path=f"clips/{prompt_index}-{seed}.wav", digest=digest, size_bytes=4)
    saved = job_event_pb2.PreviewSaved(prompt_index=prompt_index, prompt="a song", seed=seed, duration_s=2, file=file)
    return job_event_pb2.JobEvent(preview_saved=saved)


def done(clip_count: int, **left: Any) -> job_event_pb2.JobEvent:
    """The last event of a job that has played so many clips."""
    succeeded = job_event_pb2.JobSucceeded(clip_count=clip_count, **left)
    return job_event_pb2.JobEvent(finished=job_event_pb2.JobFinished(succeeded=succeeded))


async def tell(registry: Registry, job: Job, *events: job_event_pb2.JobEvent) -> Run:
    """Store a job's events from its first on; the run afterwards."""
    for seq, event in enumerate(events, start=1):
        event.seq = seq
    await apply_events(registry.db, registry.blobs, job, events, lease_s=15)
    return await registry.get(job)


async def previews(registry: Registry, job: Job, **page: Any) -> list[Preview]:
    async with registry.db.connection() as conn:
        return await store.previews(conn, run_id=job.run_id, **{"limit": 100, **page})


def places(found: list[Preview]) -> list[tuple[int, int, int]]:
    return [(each.prompt_index, each.seed, each.attempt) for each in found]


def test_it_is_written_down_of_every_kind_of_the_contract_what_it_takes_and_leaves():
    kinds = {field.name for field in job_spec_pb2.JobSpec.DESCRIPTOR.fields}

    assert set(TAKES) == set(LEAVES) == kinds


async def test_success_is_the_clips_and_registers_nothing(registry: Registry):
    job = await playing(registry)
    digest = await registry.blobs.put_bytes(b"RIFF")

    ended = await tell(registry, job, clip(digest, seed=0), clip(digest, seed=1), done(2))

    assert (ended.state, ended.failure) == (RunState.SUCCEEDED, None)
    assert (ended.adapter_id, ended.model_id, ended.final_loss, ended.dataset_version_id) == (None, None, None, None)
    assert [await registry.count(table) for table in ("adapters", "models", "previews")] == [0, 0, 2]


async def test_clips_are_copied_from_their_node_and_nothing_is_read_with_the_end(registry: Registry):
    job = await playing(registry)
    await mark_started(registry.db, job)
    trainer = FakeTrainer()
    digest = await registry.blobs.put_bytes(b"RIFF")
    trainer.blobs[digest] = registry.blobs.stored.pop(digest)
    trainer.logs[job.job_id] = [clip(digest), done(1)]
    for seq, event in enumerate(trainer.logs[job.job_id], start=1):
        event.seq = seq

    async with asyncio.timeout(20), Ingest(registry.db, trainer, registry.blobs, DispatchConfig()) as ingest:
        await ingest.follow(job)

    assert (await registry.get(job)).state is RunState.SUCCEEDED
    assert set(registry.blobs.stored) == {digest}


@pytest.mark.parametrize(
    ("last", "said"),
    [
        (done(3), "the job ended well, but 1 of its 3 clips did not arrive; create the run again"),
        (done(0), "the training ended well, but it left nothing; resume the run"),
        (done(-2), "the training ended well, but it left nothing; resume the run"),
        (done(2, adapter_files=[{"path": "a", "digest": "a" * 64}]), "it left adapter and clips; resume the run"),
    ],
)
async def test_a_success_that_is_none_is_a_failure_that_says_so(
    registry: Registry, last: job_event_pb2.JobEvent, said: str
):
    job = await playing(registry)
    digest = await registry.blobs.put_bytes(b"RIFF")

    ended = await tell(registry, job, clip(digest, seed=0), clip(digest, seed=1), clip("0" * 64, seed=2), last)

    assert ended.failure is not None and ended.failure.message.endswith(said)
    assert await registry.count("adapters") == 0


async def test_clips_of_a_training_and_an_adapter_of_generate_are_failures_that_name_what_was_wanted(
    registry: Registry,
):
    job = await playing(registry)
    await registry.queued(await registry.experiment("second"))
    training = await registry.claim(await registry.node())

    played = await registry.finish(job, SUCCEEDED)
    trained = await tell(registry, training, done(2))

    assert played.failure is not None and trained.failure is not None
    assert played.failure.message == (
        "the job ended well, but it left an adapter, and generate leaves clips; update its node, then create the run "
        "again"
    )
    assert "it left clips, and supervised leaves an adapter; update its node, then resume" in trained.failure.message


async def test_an_attempt_counts_its_own_clips(registry: Registry):
    first = await playing(registry)
    digest = await registry.blobs.put_bytes(b"RIFF")
    await tell(registry, first, clip(digest, seed=0), clip(digest, seed=1))
    await lose_attempt(registry.db, first, "silence")
    second = await registry.claim(await registry.node("player", **NODE))

    ended = await tell(registry, second, clip(digest, seed=0), done(2))

    assert ended.failure is not None and "1 of its 2 clips did not arrive" in ended.failure.message


async def test_clips_of_a_prompt_are_told_apart_by_their_seeds_and_replaced_when_they_are_told_again(
    registry: Registry,
):
    job = await playing(registry)
    old, new = [await registry.blobs.put_bytes(data) for data in (b"RIFF", b"RIFX")]

    await tell(
        registry, job, clip(old, seed=3), clip(old, seed=2), clip(old, prompt_index=1, seed=2), clip(new, seed=3)
    )

    kept = await previews(registry, job)
    assert places(kept) == [(0, 2, 1), (0, 3, 1), (1, 2, 1)]
    assert [each.file and each.file.digest for each in kept] == [old, new, old]


async def test_clips_are_listed_by_prompt_seed_and_attempt_over_pages_of_any_size(registry: Registry):
    first = await playing(registry)
    digest = await registry.blobs.put_bytes(b"RIFF")
    every = [clip(digest, prompt_index=prompt, seed=seed) for prompt in (0, 1) for seed in (-1, 2, 10)]
    await tell(registry, first, *every[:4])
    await lose_attempt(registry.db, first, "silence")
    second = await registry.claim(await registry.node("player", **NODE))
    await tell(registry, second, *every)

    whole = places(await previews(registry, second))
    for size in (1, 2, 3, 7):
        paged: list[Preview] = []
        while page := await previews(registry, second, limit=size, after=paged[-1].key if paged else None):
            paged += page
        assert places(paged) == whole, size

    assert whole == sorted(whole) and len(whole) == 10
    assert whole[:3] == [(0, -1, 1), (0, -1, 2), (0, 2, 1)]


async def test_the_base_model_of_an_adapter_that_plays_is_taken_over_and_the_node_is_told_its_files(
    registry: Registry,
):
    adapter = await registry.adapter()
    trainer = FakeTrainer()
    run = await registry.queued(
        await registry.experiment("second"), spec=generate(base_model="", adapter_id=adapter.adapter_id)
    )

    await Dispatch(registry.db, trainer, DispatchConfig()).tick()

    (job,) = trainer.started
    assert run.spec.generate.player.base_model == job.spec.generate.player.base_model == BASE_MODEL
    assert run.start_adapter_id == adapter.adapter_id
    assert list(job.start_adapter.files) == list(adapter.files) != []
    assert job.start_adapter.base_model_fingerprint == FINGERPRINT
    assert not job.dataset_digest and not job.HasField("resume_from")


async def test_a_base_model_alone_plays_without_an_adapter(registry: Registry):
    trainer = FakeTrainer()
    run = await registry.queued(spec=generate(base_model="tiny"))
    await registry.node("player", **NODE)

    await Dispatch(registry.db, trainer, DispatchConfig()).tick()

    assert (run.spec.generate.player.base_model, run.start_adapter_id) == ("tiny", None)
    assert not trainer.started[0].HasField("start_adapter")


async def test_who_cannot_play_is_refused_before_anything_is_queued(registry: Registry):
    experiment = await registry.experiment()
    adapter = await registry.adapter(experiment)
    other = generate(base_model="tiny", adapter_id=adapter.adapter_id)

    with pytest.raises(StartAdapterUnsuitable, match=f"first@1 was trained on {BASE_MODEL}, not on tiny; leave base_"):
        await registry.queued(experiment, spec=other)
    with pytest.raises(AdapterNotFound):
        await registry.queued(experiment, spec=generate(adapter_id=new_id("adp")))

    assert await registry.count("runs") == 1


async def test_nobody_and_nothing_to_play_are_refused_by_their_fields_both_at_once(registry: Registry):
    with pytest.raises(InvalidField) as caught:
        await registry.queued(spec=spec_of("generate"))

    player, prompts = [str(field) for field in caught.value.fields]
    assert player.startswith("spec.generate.player.base_model: missing; give a Hugging Face id such as ")
    assert player.endswith(", or adapter_id, which knows its own")
    assert prompts == "spec.generate.generation.prompts: missing; give 1 to 1,000 texts to play clips for"


async def test_data_to_train_on_is_refused_and_that_of_the_experiment_is_left_alone(registry: Registry):
    run = await registry.queued(spec=generate())

    assert (run.dataset_version_id, await registry.count("dataset_versions")) == (None, 0)
    with pytest.raises(InvalidField, match=r"min_rating: generate takes no rated clips; leave it out"):
        await registry.queued(await registry.experiment("second"), spec=generate(), min_rating=4)


async def test_a_kind_that_no_node_offers_is_refused(registry: Registry):
    await registry.node(kinds=("supervised",))

    with pytest.raises(TrainingKindUnavailable, match="no node runs generate"):
        await registry.queued(spec=generate())


@pytest.mark.parametrize("ending", [FAILED, CANCELLED, None])
async def test_a_run_of_clips_is_created_again_and_never_resumed(
    registry: Registry, ending: job_event_pb2.JobFinished | None
):
    job = await playing(registry)
    if ending is CANCELLED:
        await cancel_run(registry.db, run_id=job.run_id)
    if ending is not None:
        await registry.finish(job, ending)

    with pytest.raises(RunNotResumable, match="keeps no checkpoint to go on from; create it again, it plays the same"):
        await resume_run(registry.db, run_id=job.run_id)

    assert await registry.count("runs") == 1


async def test_a_run_of_clips_has_no_report_and_says_where_its_clips_are(registry: Registry):
    job = await playing(registry)

    async with registry.db.connection() as conn:
        with pytest.raises(ReportNotReady, match="a run of generate has clips and no report; list them with ListPrev"):
            await reports.of_run(conn, job.run_id)


async def test_clips_of_a_run_that_has_succeeded_stay_when_it_is_cancelled(registry: Registry):
    job = await playing(registry)
    await tell(registry, job, clip(await registry.blobs.put_bytes(b"RIFF")), done(1))

    with pytest.raises(RunFinished, match="it cannot be cancelled; its clips stay"):
        await cancel_run(registry.db, run_id=job.run_id)


async def test_a_run_whose_node_was_lost_too_often_is_to_be_created_again(registry: Registry):
    job = await playing(registry)

    ended = await lose_attempt(registry.db, job, "silence", max_lost_attempts=1)

    assert ended is not None and ended.failure is not None
    assert ended.failure.message.endswith("see ListRunEvents, then create the run again")


async def test_its_events_say_that_it_plays(registry: Registry):
    job = await playing(registry)

    async with registry.db.connection() as conn:
        told = await store.events(conn, run_id=job.run_id, limit=10)

    assert told[-1].reason == "plays on cpu fp32"


async def test_an_adapter_that_plays_in_a_run_stays(registry: Registry):
    adapter = await registry.adapter()
    await registry.queued(await registry.experiment("second"), spec=generate(adapter_id=adapter.adapter_id))

    with pytest.raises(psycopg.errors.ForeignKeyViolation, match="start_adapter_id"):
        async with registry.db.transaction() as conn:
            await execute(conn, "UPDATE runs SET adapter_id = NULL WHERE adapter_id = %(id)s", id=adapter.adapter_id)
            await execute(conn, "DELETE FROM adapters WHERE adapter_id = %(id)s", id=adapter.adapter_id)
