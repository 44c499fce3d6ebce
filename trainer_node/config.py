"""Configuration of a trainer node: one frozen dataclass, every default explained where it stands."""

from __future__ import annotations

import re
import socket
from dataclasses import dataclass
from pathlib import Path

from tunesmith.errors import FieldProblem, InvalidField

_NAME = re.compile(r"^[a-z0-9]([a-z0-9._-]{0,61}[a-z0-9])?$")


@dataclass(frozen=True, kw_only=True)
class TrainerNodeConfig:
    """[node] in tunesmith.toml; every field is also TUNESMITH_NODE_<FIELD>."""

    listen: str = "127.0.0.1:7461"  # host:port of TrainerService; port 0 takes a free one
    advertise: str = ""  # host:port where the control plane reaches it; empty: the address it listens on
    name: str = ""  # what identifies the node across restarts; empty: the host's name
    control_plane: str = "127.0.0.1:7460"  # host:port of the control plane to join
    data_dir: Path = Path("tunesmith-data/node")  # jobs, blobs, caches; kept across restarts
    models_dir: Path = Path("tunesmith-data/models")  # base models as folders, found by name
    slots: int = 1  # trainings at a time; two on one GPU or one set of cores slow each other down
    threads: int = 0  # CPU threads of one training; 0 shares the cores out over the slots
    device: str = ""  # such as cpu or cuda:0; empty: the first GPU, else the CPU
    insecure: bool = False  # listen beyond loopback without TLS: anyone who reaches the port can start trainings
    min_free_bytes: int = 2_000_000_000  # no job is taken below this: room for a checkpoint beside the one before
    keep_ended_s: float = 7 * 86_400.0  # ended jobs and unused blobs go after this; the control plane reads in seconds
    heartbeat_s: float = 2.0  # silence on an event stream after which a sign of life is sent

    def __post_init__(self) -> None:
        problems = []
        if not 1 <= self.slots <= 64:
            problems.append(FieldProblem("node.slots", f"{self.slots} is not within 1 to 64"))
        if not 0 <= self.threads <= 1024:
            problems.append(FieldProblem("node.threads", f"{self.threads} is not within 0 (automatic) to 1024"))
        if self.name and not _NAME.match(self.name):
            what = f"{self.name!r} is not 1 to 63 of a-z, 0-9, '.', '_', '-', beginning and ending with a-z or 0-9"
            problems.append(FieldProblem("node.name", what))
        if not 0 < self.heartbeat_s <= 5:
            problems.append(FieldProblem("node.heartbeat_s", f"{self.heartbeat_s} is not above 0 and at most 5"))
        if problems:
            raise InvalidField.of(problems)

    @property
    def node_name(self) -> str:
        """The name that the node goes by: the configured one, else one made from the host's."""
        return self.name or _name_from(socket.gethostname())

    @property
    def jobs_dir(self) -> Path:
        """One folder a job."""
        return self.data_dir / "jobs"

    @property
    def blobs_dir(self) -> Path:
        """Inputs and results, named by digest."""
        return self.data_dir / "blobs"

    @property
    def cache_dir(self) -> Path:
        """What can be computed again: features, downloaded models."""
        return self.data_dir / "cache"


def _name_from(host: str) -> str:
    name = re.sub(r"[^a-z0-9._-]", "-", host.lower())[:63].strip("._-")
    return name or "node"
