"""Short ways to a registry in a certain state: an experiment with data, a node, a run that is claimed, a checkpoint."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from google.protobuf import json_format

from control_plane.adapters import store as adapters
from control_plane.adapters.model import Adapter
from control_plane.datasets.commands import add_comparisons, add_samples, create_dataset
from control_plane.datasets.model import Dataset, NewComparison, NewSample
from control_plane.db.connection import execute
from control_plane.db.pool import Database
from control_plane.experiments.commands import create_experiment
from control_plane.experiments.model import Experiment
from control_plane.models import store as models
from control_plane.models.model import Model
from control_plane.nodes.commands import register_node
from control_plane.nodes.model import Node
from control_plane.runs import commands, store
from control_plane.runs.model import Artefacts, Job, Run
from tests.support.fakes import FakeInspector, InMemoryBlobs
from tunesmith.v1 import blob_pb2, job_event_pb2, job_spec_pb2

BASE_MODEL = "facebook/musicgen-small"
FINGERPRINT = "f" * 64
KINDS = ("supervised", "dpo", "ranking", "tiny_lm", "generate")
SUCCEEDED = job_event_pb2.JobFinished(
    succeeded=job_event_pb2.JobSucceeded(
        adapter_files=[blob_pb2.File(path="adapter_model.safetensors", digest="a" * 64, size_bytes=12)]
    )
)
MODEL_SUCCEEDED = job_event_pb2.JobFinished(
    succeeded=job_event_pb2.JobSucceeded(
        model_files=[blob_pb2.File(path="best_model.pt", digest="b" * 64, size_bytes=34)]
    )
)
FAILED = job_event_pb2.JobFinished(
    failed=job_event_pb2.JobFailed(reason="OUT_OF_MEMORY", message="reduce batch_size from 8 to 4", exit_code=1)
)
CANCELLED = job_event_pb2.JobFinished(cancelled=job_event_pb2.JobCancelled(checkpoint_step=20))


def supervised(**training: object) -> job_spec_pb2.JobSpec:
    """A complete JobSpec for a supervised run."""
    return spec_of("supervised", adapter={"base_model": BASE_MODEL}, training=training)


def spec_of(kind: str, **groups: dict[str, object]) -> job_spec_pb2.JobSpec:
    """A JobSpec of a kind with these settings."""
    return json_format.ParseDict({kind: groups}, job_spec_pb2.JobSpec())


def tiny_lm(**corpus: object) -> job_spec_pb2.JobSpec:
    """A JobSpec for a language model."""
    return spec_of("tiny_lm", corpus=corpus)


def generate(
    *prompts: str, base_model: str = BASE_MODEL, adapter_id: str = "", **settings: object
) -> job_spec_pb2.JobSpec:
    """A JobSpec for clips of these prompts, or of one."""
    player = {"base_model": base_model, "adapter_id": adapter_id}
    return spec_of("generate", player=player, generation={"prompts": prompts or ("a song",), **settings})


def digest_of(word: str) -> str:
    """A digest, as if `word` had been uploaded."""
    return hashlib.sha256(word.encode()).hexdigest()


def clip(word: str, *, rating: float = 3.0, prompt: str | None = None, **tags: str) -> NewSample:
    """A sample whose audio is called `word`."""
    return NewSample(prompt=prompt or f"a {word}", audio_digest=digest_of(word), rating=rating, tags=tags)


def compared(*tiers: str, prompt: str = "a song") -> NewComparison:
    """A comparison of clips of which each is better than the next; a tier of several words is tied."""
    clips = [(digest_of(word), rank) for rank, tier in enumerate(tiers, start=1) for word in tier.split()]
    return NewComparison(prompt=prompt, clips=tuple(clips))


@dataclass
class Registry:
    """A database and blobs, and what tests do with them."""

    db: Database
    blobs: InMemoryBlobs = field(default_factory=InMemoryBlobs)

    async def dataset(self, *samples: NewSample, name: str = "clips") -> Dataset:
        """A data set of these samples, or of three."""
        dataset = await create_dataset(self.db, name=name)
        chosen = samples or (clip("drum", rating=2), clip("flute", rating=4), clip("harp", rating=5))
        await add_samples(self.db, FakeInspector(), dataset_id=dataset.dataset_id, samples=chosen)
        return dataset

    async def compare(self, dataset_id: str, *comparisons: NewComparison) -> tuple[int, int]:
        """Add comparisons; (added, duplicates)."""
        return await add_comparisons(self.db, FakeInspector(), dataset_id=dataset_id, comparisons=comparisons)

    async def experiment(self, name: str = "first", samples: Sequence[NewSample] = ()) -> Experiment:
        """An experiment with data: these samples, or three that no two of share a prompt."""
        dataset = await self.dataset(*samples, name=f"{name}-clips")
        return await create_experiment(self.db, name=name, dataset_id=dataset.dataset_id)

    async def node(self, name: str = "node-1", *, slots: int = 1, kinds: tuple[str, ...] = ("supervised",)) -> Node:
        """A node that is online."""
        return await register_node(self.db, name=name, address="127.0.0.1:1", kinds=kinds, slots=slots)

    async def queued(self, experiment: Experiment | None = None, **asked: Any) -> Run:
        """A run that waits."""
        of = experiment or await self.experiment()
        asked.setdefault("spec", supervised())
        return await commands.create_run(self.db, self.blobs, experiment_id=of.experiment_id, **asked)

    async def claim(self, node: Node) -> Job:
        """The next run's job on a node."""
        claimed = await commands.claim_next(self.db, node_id=node.node_id, lease_s=15)
        assert claimed is not None
        return claimed[1]

    async def claimed(self) -> tuple[Run, Job]:
        """A run that is starting on a node of its own."""
        run = await self.queued()
        job = await self.claim(await self.node())
        return await self.get(run), job

    async def running(self) -> tuple[Run, Job]:
        """A run that trains."""
        run, job = await self.claimed()
        await self.begin(job)
        return await self.get(run), job

    async def begin(self, job: Job) -> Run:
        """The job tells that it has started."""
        started = job_event_pb2.JobStarted(total_steps=100, total_epochs=10, device="cpu fp32")
        async with self.db.transaction() as conn:
            return await commands.begin_training(conn, job, started, "ingest")

    async def finish(self, job: Job, finished: job_event_pb2.JobFinished) -> Run:
        """The job tells its end; with success, what was trained and how."""
        artefacts = _artefacts(await self.get(job)) if finished.HasField("succeeded") else None
        async with self.db.transaction() as conn:
            return await commands.finish_run(conn, job, finished, artefacts, "ingest")

    async def adapter(self, experiment: Experiment | None = None, **asked: Any) -> Adapter:
        """The adapter of a run that succeeded."""
        await self.queued(experiment, **asked)
        ended = await self.finish(await self.claim(await self.node("maker", slots=64, kinds=KINDS)), SUCCEEDED)
        async with self.db.connection() as conn:
            return await adapters.get(conn, str(ended.adapter_id))

    async def model(self, experiment: Experiment | None = None) -> Model:
        """The language model of a run that succeeded."""
        await self.queued(experiment, spec=tiny_lm())
        ended = await self.finish(await self.claim(await self.node("maker", slots=64, kinds=KINDS)), MODEL_SUCCEEDED)
        async with self.db.connection() as conn:
            return await models.get(conn, str(ended.model_id))

    async def checkpoint(self, job: Job, step: int) -> None:
        """The job has left a checkpoint."""
        sql = """
            INSERT INTO checkpoints (run_id, attempt, step, epoch, best, files)
            VALUES (%(run_id)s, %(attempt)s, %(step)s, 1, false, '[]')
        """
        async with self.db.transaction() as conn:
            await execute(conn, sql, run_id=job.run_id, attempt=job.attempt, step=step)

    async def lapse(self, job: Job) -> None:
        """Let the job's lease have run out a second ago."""
        sql = "UPDATE jobs SET lease_until = now() - interval '1 second' WHERE job_id = %(id)s"
        async with self.db.transaction() as conn:
            await execute(conn, sql, id=job.job_id)

    async def silence(self, node: Node) -> None:
        """Let nothing have been heard of the node for an hour."""
        sql = "UPDATE nodes SET last_seen_time = now() - interval '1 hour' WHERE node_id = %(id)s"
        async with self.db.transaction() as conn:
            await execute(conn, sql, id=node.node_id)

    async def get(self, run: Run | Job) -> Run:
        """The run as it is now."""
        async with self.db.connection() as conn:
            return await store.get(conn, run.run_id)

    async def count(self, table: str) -> int:
        """Rows of a table."""
        async with self.db.connection() as conn:
            cursor = await conn.execute(f"SELECT count(*) AS n FROM {table}".encode())
            row = await cursor.fetchone()
            assert row is not None
            return int(row["n"])


def _artefacts(run: Run) -> Artefacts:
    config = job_event_pb2.TrainingConfig(
        run_id=run.run_id, spec=run.spec, device="cpu fp32", base_model_fingerprint=FINGERPRINT
    )
    report = job_event_pb2.TrainingReport(config=config, final_loss=1.5, best_loss=1.25)
    return Artefacts(training_config=config, report=report, report_markdown="# Report\n")
