"""A running control plane for tests: real sockets, real Postgres, blobs in a folder; no loops, no audio decoder.

One for the whole session: tests keep apart by names and ids of their own, as clients of a real one have to.
"""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import grpc
import psycopg
import pytest
import pytest_asyncio
from psycopg import sql

from control_plane.db.failures import expected_failure
from control_plane.db.pool import Database, connect
from control_plane.ports import Blobs
from control_plane.runs import commands as runs
from control_plane.runs.model import Artefacts, Job
from services.blob_store import BlobStore
from services.main_control_plane import servicers
from services.rpc.server import ServerOptions, build_server, serving
from services.server_service import ServerFacts
from tests.support.fakes import FakeInspector
from tunesmith.v1 import (
    adapter_pb2_grpc,
    blob_pb2,
    dataset_pb2,
    dataset_pb2_grpc,
    experiment_pb2,
    experiment_pb2_grpc,
    job_event_pb2,
    job_spec_pb2,
    node_pb2,
    node_pb2_grpc,
    run_pb2,
    run_pb2_grpc,
    server_pb2_grpc,
)


def fresh(prefix: str) -> str:
    """A name that nothing else has."""
    return f"{prefix}-{uuid.uuid4().hex[:12]}"


def fresh_digest() -> str:
    """The name of a clip that nothing else has."""
    return uuid.uuid4().hex * 2


def small_spec() -> job_spec_pb2.JobSpec:
    """The least that a run needs."""
    return job_spec_pb2.JobSpec(
        supervised=job_spec_pb2.SupervisedSpec(adapter=job_spec_pb2.AdapterSettings(base_model="tiny"))
    )


@dataclass
class Plane:
    """A control plane, its stubs, and short ways to what a test starts from."""

    db: Database
    blobs: Blobs
    channel: grpc.aio.Channel
    address: str
    inspector: FakeInspector
    experiments: experiment_pb2_grpc.ExperimentServiceStub = field(init=False)
    datasets: dataset_pb2_grpc.DatasetServiceStub = field(init=False)
    runs: run_pb2_grpc.RunServiceStub = field(init=False)
    adapters: adapter_pb2_grpc.AdapterServiceStub = field(init=False)
    nodes: node_pb2_grpc.NodeServiceStub = field(init=False)
    server: server_pb2_grpc.ServerServiceStub = field(init=False)

    def __post_init__(self) -> None:
        self.experiments = experiment_pb2_grpc.ExperimentServiceStub(self.channel)
        self.datasets = dataset_pb2_grpc.DatasetServiceStub(self.channel)
        self.runs = run_pb2_grpc.RunServiceStub(self.channel)
        self.adapters = adapter_pb2_grpc.AdapterServiceStub(self.channel)
        self.nodes = node_pb2_grpc.NodeServiceStub(self.channel)
        self.server = server_pb2_grpc.ServerServiceStub(self.channel)

    async def new_dataset(self, *ratings: float) -> str:
        """A data set with a sample of each rating; its id."""
        request = dataset_pb2.CreateDatasetRequest(dataset=dataset_pb2.Dataset(name=fresh("clips")))
        dataset_id: str = (await self.datasets.CreateDataset(request)).dataset.dataset_id
        samples = [
            dataset_pb2.Sample(prompt=f"clip {number}", audio_digest=fresh_digest(), rating=rating)
            for number, rating in enumerate(ratings)
        ]
        if samples:
            await self.datasets.AddSamples(dataset_pb2.AddSamplesRequest(dataset_id=dataset_id, samples=samples))
        return dataset_id

    async def new_experiment(self, *, dataset_id: str | None = None) -> experiment_pb2.Experiment:
        """An experiment on a data set, by default one with three samples."""
        experiment = experiment_pb2.Experiment(
            name=fresh("trial"), dataset_id=dataset_id or await self.new_dataset(3, 4, 5), default_spec=small_spec()
        )
        request = experiment_pb2.CreateExperimentRequest(experiment=experiment)
        return (await self.experiments.CreateExperiment(request)).experiment

    async def new_run(self, experiment_id: str = "", **fields: object) -> run_pb2.Run:
        """A queued run, by default of an experiment of its own."""
        experiment_id = experiment_id or (await self.new_experiment()).experiment_id
        return (await self.runs.CreateRun(run_pb2.CreateRunRequest(experiment_id=experiment_id, **fields))).run

    async def new_node(self) -> node_pb2.Node:
        """A node that can be given runs."""
        node = node_pb2.Node(
            name=fresh("node"), address="127.0.0.1:1", kinds=["supervised", "dpo", "ranking"], slots=64
        )
        return (await self.nodes.RegisterNode(node_pb2.RegisterNodeRequest(node=node))).node

    async def dispatch(self, run_id: str, node_id: str = "") -> Job:
        """Give this run, before all others, to a node, by default to one of its own."""
        node_id = node_id or (await self.new_node()).node_id
        async with self.db.transaction() as conn:
            first = "UPDATE runs SET priority = (SELECT max(priority) + 1 FROM runs) WHERE run_id = %s"
            await conn.execute(first, [run_id])
        claimed = await runs.claim_next(self.db, node_id=node_id, lease_s=60)
        assert claimed is not None and claimed[0].run_id == run_id, "another run was in the queue before it"
        return claimed[1]

    async def new_cancelled_run(self, *, checkpoint_step: int) -> str:
        """A run that was cancelled after it had written a checkpoint; its id."""
        run_id = (await self.new_run()).run_id
        job = await self.dispatch(run_id)
        await runs.cancel_run(self.db, run_id=run_id)
        async with self.db.transaction() as conn:
            sql = (
                "INSERT INTO checkpoints (run_id, attempt, step, epoch, best, files) VALUES (%s, 1, %s, 1, true, '[]')"
            )
            await conn.execute(sql, [run_id, checkpoint_step])
            cancelled = job_event_pb2.JobCancelled(checkpoint_step=checkpoint_step)
            await runs.finish_run(conn, job, job_event_pb2.JobFinished(cancelled=cancelled), None, "ingest")
        return run_id

    async def finish(self, run_id: str, files: dict[str, bytes]) -> str:
        """Let this run succeed with these adapter files; the adapter's id."""
        job = await self.dispatch(run_id)
        kept = [
            blob_pb2.File(path=path, digest=await self.blobs.put_bytes(data), size_bytes=len(data))
            for path, data in files.items()
        ]
        finished = job_event_pb2.JobFinished(succeeded=job_event_pb2.JobSucceeded(adapter_files=kept))
        run = (await self.runs.GetRun(run_pb2.GetRunRequest(run_id=run_id))).run
        artefacts = Artefacts(
            training_config=job_event_pb2.TrainingConfig(run_id=run_id, spec=run.spec, device="cpu fp32"),
            report=job_event_pb2.TrainingReport(final_loss=1.5, steps=10),
            report_markdown="# Report\n",
        )
        async with self.db.transaction() as conn:
            return str((await runs.finish_run(conn, job, finished, artefacts, "ingest")).adapter_id)


@asynccontextmanager
async def running_plane(db: Database, blobs_dir: Path) -> AsyncIterator[Plane]:
    """A control plane over this database, on a free port."""
    blobs, inspector = BlobStore(str(blobs_dir)), FakeInspector()
    facts = ServerFacts(database="embedded", schema_version="test")
    server = build_server(
        servicers(db, blobs, inspector, facts),
        listen="127.0.0.1:0",
        options=ServerOptions(grace_s=0.5),
        translate=expected_failure,
    )
    async with serving(server) as address, grpc.aio.insecure_channel(address) as channel:
        yield Plane(db, blobs, channel, address, inspector)


@pytest_asyncio.fixture(scope="session")
async def plane(
    postgres: str, migrated_template: str, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Plane]:
    """A running control plane without loops, over a database of its own."""
    async with await psycopg.AsyncConnection.connect(postgres, autocommit=True) as conn:
        await conn.execute(sql.SQL("CREATE DATABASE plane TEMPLATE {}").format(sql.Identifier(migrated_template)))
    folder = tmp_path_factory.mktemp("plane")
    async with connect(f"{postgres} dbname=plane", pool_size=10) as db, running_plane(db, folder) as plane:
        yield plane
