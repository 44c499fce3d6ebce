"""From a node's spool through gRPC into Postgres: points a second, and whose CPU they cost.

The spool is written first, then drained by a control plane that finds it on a node, each a process of its own. So what
is measured is catching up after an outage, the fastest that the path can be asked to go.
"""

from __future__ import annotations

import asyncio
import math
import re
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil

from control_plane.config import DatabaseConfig, DispatchConfig
from control_plane.db.connection import execute, fetch_one
from control_plane.db.pool import Database, open_database
from control_plane.loops.ingest import Ingest
from control_plane.runs.model import Job
from services.blob_store import BlobStore
from services.trainer_client import TrainerClients
from tests.bench.figures import Figure
from tests.support.telemetry_load import make_job
from trainer_node.job_folder import HostSettings, JobFolder
from trainer_node.spool import SpoolWriter
from tunesmith import spec
from tunesmith.v1 import job_event_pb2, job_spec_pb2, trainer_pb2

NAMES = ("loss", "learning_rate", "grad_norm")


@dataclass(frozen=True)
class Load:
    """What a training writes: `events` events of `rows` rows with a value for each of NAMES."""

    name: str
    events: int
    rows: int

    @property
    def points(self) -> int:
        """Values in all."""
        return self.events * self.rows * len(NAMES)


LOADS = (Load("a row an event, as the loop writes", 40_000, 1), Load("100 rows an event", 4_000, 100))


async def measure(folder: Path) -> AsyncIterator[Figure]:
    """Each load: written into a spool, then drained into Postgres."""
    async with open_database(DatabaseConfig(data_dir=folder / "postgres")) as db:
        for number, load in enumerate(LOADS):
            job = await make_job(db)
            place = folder / f"node{number}"
            write_s = write_spool(place, job, load)
            with running_node(place) as (node, address):
                async for figure in drain(db, job, load, node, address, folder, write_s):
                    yield figure


async def drain(
    db: Database, job: Job, load: Load, node: psutil.Process, address: str, folder: Path, write_s: float
) -> AsyncIterator[Figure]:
    """Follow the job until its last event is stored."""
    async with db.transaction() as conn:
        moved = "UPDATE nodes SET address = %(address)s WHERE node_id = %(node_id)s"
        await execute(conn, moved, address=address, node_id=job.node_id)
    parts = {"node": [node], "control plane": [psutil.Process()], "Postgres": postgres_processes()}
    before = {name: cpu_s(processes) for name, processes in parts.items()}
    begun = time.perf_counter()
    async with (
        TrainerClients() as trainers,
        Ingest(db, trainers, BlobStore(str(folder / "blobs")), DispatchConfig()) as ingest,
    ):
        await ingest.tick()
        while await stored_events(db, job) < load.events + 1:  # noqa: ASYNC110  # no event tells of another's commit
            await asyncio.sleep(0.02)
    taken_s = time.perf_counter() - begun
    parts["Postgres"] = list({*parts["Postgres"], *postgres_processes()})
    used = {name: cpu_s(processes) - before[name] for name, processes in parts.items()}
    shares = ", ".join(f"{name} {100 * used[name] / sum(used.values()):.0f} %" for name in parts)
    yield Figure(f"spool to Postgres, {load.name}", f"{load.points / taken_s:,.0f} points/s", f"CPU: {shares}")
    yield Figure("  writing the spool, fsync included", f"{load.points / write_s:,.0f} points/s")


async def stored_events(db: Database, job: Job) -> int:
    """The cursor of the job."""
    async with db.connection() as conn:
        row = await fetch_one(conn, "SELECT last_seq FROM jobs WHERE job_id = %(job_id)s", job_id=job.job_id)
    return int(row["last_seq"]) if row else 0


def write_spool(place: Path, job: Job, load: Load) -> float:
    """A node's folder with one ended job; seconds that its events took to become durable."""
    settings = spec.resolve(job_spec_pb2.JobSpec(supervised={"adapter": {"base_model": "tiny"}}))
    message = trainer_pb2.Job(job_id=job.job_id, run_id=job.run_id, attempt=job.attempt, spec=settings)
    host = HostSettings(blobs_dir=place / "blobs", models_dir=place / "models", cache_dir=place / "cache")
    (place / "jobs").mkdir(parents=True)
    folder = JobFolder.create(place / "jobs", message, host)
    begun = time.perf_counter()
    writer = SpoolWriter(folder.spool)
    for number in range(load.events):
        steps = range(number * load.rows + 1, (number + 1) * load.rows + 1)
        values = [value for step in steps for value in (5 * math.exp(-step / 1e5), 1e-4, 1 + 0.1 * math.sin(step))]
        batch = job_event_pb2.MetricBatch(
            names=NAMES, steps=steps, times_us=[time.time_ns() // 1000] * load.rows, values=values
        )
        writer.append(job_event_pb2.JobEvent(metrics=batch))
    end = job_event_pb2.JobFinished(cancelled=job_event_pb2.JobCancelled())
    writer.append(job_event_pb2.JobEvent(finished=end))
    writer.close()
    return time.perf_counter() - begun


@contextmanager
def running_node(place: Path) -> Iterator[tuple[psutil.Process, str]]:
    """A trainer node over that folder, and its address. Nobody answers where it wants to register."""
    flags = [
        "--data-dir",
        str(place),
        "--listen",
        "127.0.0.1:0",
        "--control-plane",
        "127.0.0.1:9",
        "--min-free-bytes",
        "0",
    ]
    program = [sys.executable, "-m", "services.cli.main", "node", "--name", "bench", *flags]
    started = subprocess.Popen(program, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    try:
        assert started.stdout
        line = next((line for line in started.stdout if "event=ready" in line), "")
        address = re.search(r"address=(\S+)", line)
        assert address, "the node ended before it was ready"
        yield psutil.Process(started.pid), address.group(1)
    finally:
        started.terminate()
        started.wait(30)


def postgres_processes() -> list[psutil.Process]:
    """The embedded server's processes: those below this one that are named so."""
    return [process for process in psutil.Process().children(recursive=True) if process.name() == "postgres"]


def cpu_s(processes: list[psutil.Process]) -> float:
    """CPU seconds, user and system, that they have used so far."""
    return sum(sum(process.cpu_times()[:2]) for process in processes)
