"""From CreateRun to the training's process, and to its first step, on an installation as `tunesmith up` starts it."""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import AsyncIterator
from pathlib import Path

import grpc

from services import main_local
from services.cli.dataset_import import add_samples
from services.cli.import_file import prepare_import
from tests.bench.figures import Figure
from trainer_node.data.demo import write_demo
from trainer_node.engines.musicgen.tiny import make_tiny
from tunesmith.client.client import Client
from tunesmith.client.transfer import upload_missing
from tunesmith.v1 import dataset_pb2, experiment_pb2, node_pb2, run_pb2, trainer_pb2, trainer_pb2_grpc

RUNS = 3


async def measure(folder: Path) -> AsyncIterator[Figure]:
    """A few runs, one after the other."""
    make_tiny(folder / "models" / "tiny")
    write_demo(folder / "demo", seed=0)
    stop, ready = asyncio.Event(), asyncio.get_running_loop().create_future()
    config = main_local.LocalConfig(data_dir=folder, listen="127.0.0.1:0", node_listen="127.0.0.1:0", device="cpu")
    running = asyncio.create_task(main_local.run(config, stop=stop, ready=ready.set_result))
    address = await ready
    process_s, step_s = [], []
    try:
        experiment_id, node = await asyncio.to_thread(prepare, address, folder)
        for _ in range(RUNS):
            to_process, to_step = await asyncio.to_thread(one_run, address, node, experiment_id)
            process_s.append(to_process)
            step_s.append(to_step)
    finally:
        stop.set()
        await running
    yield Figure("CreateRun → the training's process has started", f"{1000 * statistics.median(process_s):.0f} ms")
    yield Figure(
        "CreateRun → its first step is stored", f"{statistics.median(step_s):.1f} s", "imports, model, features"
    )


def prepare(address: str, folder: Path) -> tuple[str, str]:
    """An experiment over the demo's clips, and the node's address."""
    with Client(address) as client:
        rows = prepare_import(folder / "demo" / "rated.jsonl")
        upload_missing(client, rows.audio_files)
        dataset = client.datasets.CreateDataset(dataset_pb2.CreateDatasetRequest(dataset={"name": "bench"})).dataset
        add_samples(client, dataset.dataset_id, rows)
        asked = experiment_pb2.CreateExperimentRequest(experiment={"name": "bench", "dataset_id": dataset.dataset_id})
        experiment = client.experiments.CreateExperiment(asked).experiment
        while not (nodes := client.nodes.ListNodes(node_pb2.ListNodesRequest()).nodes):
            time.sleep(0.05)
        return experiment.experiment_id, nodes[0].address


def one_run(address: str, node: str, experiment_id: str) -> tuple[float, float]:
    """Seconds to the process, and to the first stored step. The run is cancelled then."""
    settings = {"adapter": {"base_model": "tiny"}, "training": {"log_every_steps": 1, "epochs": 500}}
    with Client(address) as client, grpc.insecure_channel(node) as channel:
        trainer = trainer_pb2_grpc.TrainerServiceStub(channel)
        begun = time.perf_counter()
        request = run_pb2.CreateRunRequest(experiment_id=experiment_id, spec={"supervised": settings})
        run_id = client.runs.CreateRun(request).run.run_id
        while not any(job.pid for job in jobs_of(trainer, run_id)):
            time.sleep(0.002)
        to_process = time.perf_counter() - begun
        while client.runs.GetRun(run_pb2.GetRunRequest(run_id=run_id)).run.step < 1:
            time.sleep(0.01)
        to_step = time.perf_counter() - begun
        client.runs.CancelRun(run_pb2.CancelRunRequest(run_id=run_id))
        while not client.runs.GetRun(run_pb2.GetRunRequest(run_id=run_id)).run.HasField("end_time"):
            time.sleep(0.05)
        return to_process, to_step


def jobs_of(trainer: trainer_pb2_grpc.TrainerServiceStub, run_id: str) -> list[trainer_pb2.JobStatus]:
    """The node's jobs that serve a run."""
    return [job for job in trainer.GetJobs(trainer_pb2.GetJobsRequest()).jobs if job.run_id == run_id]
