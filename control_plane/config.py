"""Configuration of the control plane, as values. Files, environment and flags are read by the edge.

Each class is a table of tunesmith.toml; each field is also TUNESMITH_<TABLE>_<FIELD>.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True, kw_only=True)
class DatabaseConfig:
    """[database]"""

    dsn: str | None = None  # libpq connection string of Postgres 15 or newer; none: an embedded server
    data_dir: Path = Path("tunesmith-data/postgres")  # folder of the embedded server; unused with a DSN
    pool_size: int = 10  # connections a control plane holds at most, one more for LISTEN


@dataclass(frozen=True, kw_only=True)
class DispatchConfig:
    """[dispatch]: how work is given to nodes, and taken back."""

    lease_s: float = 15.0  # a job of which nothing is heard for this long is lost
    node_silence_s: float = 15.0  # a node that has not registered for this long gets no work
    poll_s: float = 1.0  # how often to look without a NOTIFY
    reconcile_s: float = 5.0  # how often to compare what a node runs with what it should run
    stop_grace_s: float = 8.0  # from the request to stop until the process group is killed
    max_lost_attempts: int = 5  # a run whose nodes were lost this often fails

    def __post_init__(self) -> None:
        if not self.lease_s >= 2 * self.poll_s > 0:
            raise ValueError("dispatch.lease_s must be at least twice dispatch.poll_s")
        if self.max_lost_attempts < 1:
            raise ValueError("dispatch.max_lost_attempts must be at least 1")


@dataclass(frozen=True, kw_only=True)
class PruneConfig:
    """[prune]: what is forgotten, and when."""

    request_hours: float = 24.0  # answers of Create and Resume calls are kept this long
    every_s: float = 300.0  # how often to look
    batch: int = 1000  # rows deleted in one transaction


@dataclass(frozen=True, kw_only=True)
class ControlPlaneConfig:
    """[control_plane], and the tables below it."""

    listen: str = "127.0.0.1:7460"  # host:port; port 0 takes a free one
    insecure: bool = False  # allow an address that other machines reach, without encryption
    blobs: str = "tunesmith-data/blobs"  # a folder, or an s3://, gs://, az:// URL
    database: DatabaseConfig = field(default_factory=DatabaseConfig)
    dispatch: DispatchConfig = field(default_factory=DispatchConfig)
    prune: PruneConfig = field(default_factory=PruneConfig)
