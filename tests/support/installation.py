"""A whole installation for tests: control plane and trainer nodes as programs of their own, which tests may kill.

The base model and the rated clips are made once a session; each installation has a database and folders of its own.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import psutil
import pytest

from services.cli.dataset_import import add_samples, find_or_create
from services.cli.import_file import prepare_import
from trainer_node.data.demo import write_demo
from trainer_node.engines.musicgen.tiny import make_tiny
from trainer_node.spool import SpoolReader
from tunesmith.client.client import Client
from tunesmith.client.errors import ApiError
from tunesmith.client.transfer import upload_missing
from tunesmith.client.watch import watch_metrics
from tunesmith.v1 import dataset_pb2, experiment_pb2, job_event_pb2, job_spec_pb2, run_pb2, telemetry_pb2

T = TypeVar("T")
Ledger = dict[tuple[str, int], float]
"""Value by (metric, step)."""


@dataclass(frozen=True)
class Materials:
    """What every installation starts from. models_dir holds the base model `tiny`; rated: a file of 16 rated clips;
    shared: the same clips as answers to 5 prompts, three or four each, none as good as another.
    """

    models_dir: Path
    rated: Path
    shared: Path


@dataclass
class Installation:
    """Programs over one database. Ports are fixed at the start, so that a program that is killed comes back there."""

    folder: Path
    dsn: str
    materials: Materials
    port: int = field(default_factory=lambda: _free_port())
    programs: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)
    node_ports: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.client = Client(self.address)

    @property
    def address(self) -> str:
        """Of the control plane."""
        return f"127.0.0.1:{self.port}"

    def start_control_plane(self, *flags: str) -> None:
        """Start it and wait until it answers."""
        blobs = str(self.folder / "blobs")
        self._start("control-plane", "--listen", self.address, "--dsn", self.dsn, "--blobs", blobs, *flags)
        wait_for(self._answers, within_s=30)

    def start_node(self, name: str = "node-a", *flags: str) -> None:
        """Start a node and wait until the control plane knows it."""
        port = self.node_ports.setdefault(name, _free_port())
        folders = ["--data-dir", str(self.node_folder(name)), "--models-dir", str(self.materials.models_dir)]
        place = ["--listen", f"127.0.0.1:{port}", "--control-plane", self.address, "--name", name]
        self._start("node", *place, *folders, "--min-free-bytes", "1000000", *flags, key=name)
        wait_for(lambda: name in {node.name for node in self._nodes()}, within_s=30)

    def kill(self, name: str) -> None:
        """SIGKILL to a program alone; the trainings that it has started live on."""
        program = self.programs.pop(name)
        program.kill()
        program.wait()

    def node_folder(self, name: str = "node-a") -> Path:
        """Where a node keeps its jobs."""
        return self.folder / name

    def new_experiment(self, name: str = "trial", *, clips: Path | None = None) -> str:
        """An experiment over the imported clips, by default the rated ones; its id."""
        prepared = prepare_import(clips or self.materials.rated)
        upload_missing(self.client, prepared.audio_files)
        dataset_id, created = find_or_create(self.client, prepared.file.stem)
        if created:
            add_samples(self.client, dataset_id, prepared)
        experiment = experiment_pb2.Experiment(name=name, dataset_id=dataset_id)
        request = experiment_pb2.CreateExperimentRequest(experiment=experiment)
        return self.client.experiments.CreateExperiment(request).experiment.experiment_id

    def submit(self, experiment_id: str, spec: job_spec_pb2.JobSpec, *, dataset_version_id: str = "") -> str:
        """Queue a run; its id."""
        request = run_pb2.CreateRunRequest(
            experiment_id=experiment_id, spec=spec, dataset_version_id=dataset_version_id
        )
        return self.client.runs.CreateRun(request).run.run_id

    def freeze_lists(self, experiment_id: str) -> str:
        """A version of an experiment's clips as ranked lists; its id."""
        asked = experiment_pb2.GetExperimentRequest(experiment_id=experiment_id)
        dataset_id = self.client.experiments.GetExperiment(asked).experiment.dataset_id
        request = dataset_pb2.CreateDatasetVersionRequest(dataset_id=dataset_id, ranked_lists={})
        return self.client.datasets.CreateDatasetVersion(request).dataset_version.dataset_version_id

    def run(self, run_id: str) -> run_pb2.Run:
        """A run as it is now."""
        return self.client.runs.GetRun(run_pb2.GetRunRequest(run_id=run_id)).run

    def run_at_step(self, run_id: str, step: int, *, within_s: float = 90) -> run_pb2.Run:
        """The run once it has got to this step; fails where it ends before."""

        def there() -> run_pb2.Run | None:
            run = self.run(run_id)
            assert not run.HasField("end_time"), f"the run ended too early: {run}"
            return run if run.step >= step else None

        return wait_for(there, within_s=within_s)

    def ended(self, run_id: str, *, within_s: float = 120) -> run_pb2.Run:
        """The run once it has ended."""
        return wait_for(lambda: run if (run := self.run(run_id)).HasField("end_time") else None, within_s=within_s)

    def checkpoints(self, run_id: str) -> list[run_pb2.Checkpoint]:
        """The run's checkpoints that the control plane knows."""
        request = run_pb2.ListCheckpointsRequest(run_id=run_id)
        return list(self.client.runs.ListCheckpoints(request).checkpoints)

    def metrics(self, run_id: str) -> Ledger:
        """Every point that the control plane has stored."""
        request = telemetry_pb2.QueryMetricsRequest(run_id=run_id, max_points=10_000)
        series = self.client.telemetry.QueryMetrics(request).series
        return {(one.name, step): value for one in series for step, value in zip(one.steps, one.values, strict=True)}

    def watched(self, run_id: str) -> list[tuple[str, int, float]]:
        """Every point that a watch from the beginning gives, in its order."""
        frames = watch_metrics(self.client, run_id)
        return [point for frame in frames for batch in frame.rows.batches for point in points_of(batch)]

    def log_texts(self, run_id: str) -> list[str]:
        """Every log line that the control plane has stored."""
        texts, token = [], ""
        while True:
            request = telemetry_pb2.QueryLogsRequest(run_id=run_id, page_size=1000, page_token=token)
            page = self.client.telemetry.QueryLogs(request)
            texts += [line.text for line in page.lines]
            token = page.next_page_token
            if not token:
                return texts

    def spooled(self, name: str = "node-a") -> list[job_event_pb2.JobEvent]:
        """Every event that the training on a node has emitted: the ledger that the control plane is held against."""
        (spool,) = self.node_folder(name).glob("jobs/job_*/spool")
        reader = SpoolReader(spool)
        return reader.read(0, max_bytes=1 << 30)

    def training_process(self, name: str = "node-a") -> psutil.Process:
        """The training's process, once there is one."""
        jobs = str(self.node_folder(name) / "jobs")

        def found() -> psutil.Process | None:
            for process in psutil.process_iter(["cmdline"]):
                line = process.info["cmdline"] or []
                if "trainer_node.job_process" in line and any(jobs in word for word in line):
                    return process
            return None

        return wait_for(found, within_s=60)

    def stop_everything(self) -> None:
        """Nothing of this installation is left running."""
        self.client.close()
        for program in self.programs.values():
            program.terminate()
        for program in self.programs.values():
            with suppress(subprocess.TimeoutExpired):
                program.wait(10)
            program.kill()
        for process in psutil.process_iter(["cmdline"]):
            if any(str(self.folder) in word for word in process.info["cmdline"] or []):
                with suppress(psutil.NoSuchProcess, ProcessLookupError):
                    os.kill(process.pid, signal.SIGKILL)

    def _start(self, *command: str, key: str = "") -> None:
        name = key or command[0]
        with (self.folder / f"{name}.log").open("ab") as log:
            whole = [sys.executable, "-m", "services.cli.main", *command]
            self.programs[name] = subprocess.Popen(whole, stdout=log, stderr=log, stdin=subprocess.DEVNULL)

    def _answers(self) -> bool:
        program = self.programs["control-plane"]
        assert program.poll() is None, (self.folder / "control-plane.log").read_text()[-2000:]
        try:
            self._nodes()
        except ApiError:
            return False
        return True

    def _nodes(self) -> list[object]:
        from tunesmith.v1 import node_pb2

        return list(self.client.nodes.ListNodes(node_pb2.ListNodesRequest(), timeout=2).nodes)


def points_of(batch: job_event_pb2.MetricBatch) -> Iterator[tuple[str, int, float]]:
    """(metric, step, value) of every point of a batch."""
    width = len(batch.names)
    for row, step in enumerate(batch.steps):
        for column, name in enumerate(batch.names):
            yield name, step, batch.values[row * width + column]


def ledger_of(events: list[job_event_pb2.JobEvent]) -> Ledger:
    """Every point of a job's events."""
    return {(name, step): value for event in events for name, step, value in points_of(event.metrics)}


def small_training(**changes: object) -> job_spec_pb2.JobSpec:
    """Supervised, some 4 steps an epoch of about 20 ms each: quick, and long enough to be interrupted."""
    settings: dict[str, object] = {"epochs": 10, "batch_size": 4, "learning_rate": 3e-3, "log_every_steps": 1}
    spec = job_spec_pb2.SupervisedSpec(
        adapter=job_spec_pb2.AdapterSettings(base_model="tiny", lora_r=4),
        training=job_spec_pb2.TrainingSettings(**(settings | changes)),
        checkpoints=job_spec_pb2.CheckpointSettings(checkpoint_every_epochs=5),
    )
    return job_spec_pb2.JobSpec(supervised=spec)


def wait_for(question: Callable[[], T | None], *, within_s: float) -> T:
    """The answer once there is one. Asks ten times a second."""
    end = time.monotonic() + within_s
    while time.monotonic() < end:
        if answer := question():
            return answer
        time.sleep(0.1)
    raise AssertionError(f"not so within {within_s:.0f} s")


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


@pytest.fixture(scope="session")
def materials(tmp_path_factory: pytest.TempPathFactory) -> Materials:
    """A tiny base model and rated clips."""
    folder = tmp_path_factory.mktemp("materials")
    make_tiny(folder / "models" / "tiny")
    rated = write_demo(folder / "demo", clips=16)
    shared = rated.with_name("shared.jsonl")
    rows = [json.loads(line) for line in rated.read_text().splitlines()]
    answers = [row | {"prompt": f"piece {i % 5}", "rating": 5 - i // 5} for i, row in enumerate(rows)]
    shared.write_text("".join(json.dumps(row) + "\n" for row in answers))
    return Materials(models_dir=folder / "models", rated=rated, shared=shared)


@pytest.fixture
def installation(dsn: str, materials: Materials, tmp_path: Path) -> Iterator[Installation]:
    """Nothing is started yet; everything is stopped at the end."""
    made = Installation(tmp_path, dsn, materials)
    yield made
    made.stop_everything()
