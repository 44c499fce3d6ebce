"""A job's folder: all that is known about a job, on disk, so that a restarted service finds everything again.

The folder appears whole (written beside, then renamed). `job.json` and `host.json` never change; `child.json` says
which process trains; `stop.json` says that it was asked to stop and until when it may take; everything that happened
is in `spool/`. The highest attempt of a run among the folders is the run's fence.
"""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from google.protobuf import json_format

from trainer_node.durable import fsync_folder, replace_file
from trainer_node.process_watch import ChildProcess
from trainer_node.spool import reserve
from tunesmith.v1 import trainer_pb2


@dataclass(frozen=True, kw_only=True)
class HostSettings:
    """Where the training finds things on this machine. threads, device: None leaves the choice to the training."""

    blobs_dir: Path
    models_dir: Path
    cache_dir: Path
    threads: int | None = None
    device: str | None = None


@dataclass(frozen=True)
class StopRequest:
    """Someone asked the job to stop. deadline: seconds since 1970 after which its process group is killed."""

    deadline: float


class JobFolder:
    """The files of one job."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.spool = path / "spool"
        self.output = path / "output"
        self.resume = path / "resume"
        self.start_adapter = path / "start_adapter"
        self.corpus = path / "corpus"
        self.stdout = path / "stdout.log"
        self.stderr = path / "stderr.log"

    @classmethod
    def create(cls, jobs_dir: Path, job: trainer_pb2.Job, host: HostSettings) -> JobFolder:
        """A new folder for `job`, whole or not at all."""
        fresh = jobs_dir / f".{job.job_id}.new"
        shutil.rmtree(fresh, ignore_errors=True)
        fresh.mkdir(parents=True)
        replace_file(fresh / "job.json", json_format.MessageToJson(job).encode())
        facts = {name: str(value) if isinstance(value, Path) else value for name, value in vars(host).items()}
        replace_file(fresh / "host.json", json.dumps(facts, indent=2).encode())
        reserve(fresh / "spool")  # before the job's inputs can fill the disk
        folder = cls(jobs_dir / job.job_id)
        fresh.rename(folder.path)
        fsync_folder(jobs_dir)
        return folder

    @classmethod
    def all_in(cls, jobs_dir: Path) -> Iterator[JobFolder]:
        """The folders of `jobs_dir`, oldest job first; what a crash left half-made is removed."""
        for path in sorted(jobs_dir.iterdir()) if jobs_dir.is_dir() else ():
            if path.name.startswith("."):
                shutil.rmtree(path, ignore_errors=True)
            elif path.is_dir():
                yield cls(path)

    def job(self) -> trainer_pb2.Job:
        """What to train."""
        return json_format.Parse((self.path / "job.json").read_text(), trainer_pb2.Job())

    def host(self) -> HostSettings:
        """Where to find things."""
        facts = json.loads((self.path / "host.json").read_text())
        folders = {name: Path(facts[name]) for name in ("blobs_dir", "models_dir", "cache_dir")}
        return HostSettings(**(facts | folders))

    def child(self) -> ChildProcess | None:
        """The process that trains, or trained; None before it was started."""
        facts = _read(self.path / "child.json")
        return ChildProcess(**facts) if facts else None

    def write_child(self, child: ChildProcess) -> None:
        """Remember the process that trains."""
        replace_file(self.path / "child.json", json.dumps(dataclasses.asdict(child)).encode())

    def stop_request(self) -> StopRequest | None:
        """Whether the job was asked to stop, and how long it may take."""
        facts = _read(self.path / "stop.json")
        return StopRequest(**facts) if facts else None

    def write_stop_request(self, request: StopRequest) -> None:
        """Remember that the job was asked to stop."""
        replace_file(self.path / "stop.json", json.dumps(dataclasses.asdict(request)).encode())

    def remove(self) -> None:
        """Forget the job. Its blobs stay."""
        gone = self.path.with_name(f".{self.path.name}.gone")
        self.path.rename(gone)
        shutil.rmtree(gone)


def _read(path: Path) -> dict[str, Any] | None:
    try:
        facts = json.loads(path.read_text())
    except FileNotFoundError:
        return None
    return facts if isinstance(facts, dict) else None
