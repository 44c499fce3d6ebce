"""Everything in one process: embedded Postgres, control plane and one trainer node, on loopback.

The node joins over the same gRPC as a distant one, so that nothing works here which would not work apart. Its trainings
are processes of their own; they outlive this one, and the next start finds them again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from control_plane.config import ControlPlaneConfig, DatabaseConfig
from services import main_control_plane, main_trainer_node
from services.process import only
from trainer_node.config import TrainerNodeConfig


@dataclass(frozen=True, kw_only=True)
class LocalConfig:
    """What `tunesmith up` can be told."""

    data_dir: Path = Path("tunesmith-data")  # everything that is kept: postgres, blobs, node, models
    listen: str = "127.0.0.1:7460"  # of the control plane
    node_listen: str = "127.0.0.1:7461"  # of the trainer node
    models_dir: Path | None = None  # base models as folders; none: `models` in the data folder
    slots: int = 1  # trainings at a time
    device: str = ""  # such as cpu or cuda:0; empty: the first GPU, else the CPU

    @property
    def models(self) -> Path:
        """Where base models are looked for by name."""
        return self.models_dir or self.data_dir / "models"

    def control_plane(self) -> ControlPlaneConfig:
        """The control plane's share."""
        return ControlPlaneConfig(
            listen=self.listen,
            blobs=str(self.data_dir / "blobs"),
            database=DatabaseConfig(data_dir=self.data_dir / "postgres"),
        )

    def node(self, control_plane: str) -> TrainerNodeConfig:
        """The node's share. control_plane: its bound address."""
        return TrainerNodeConfig(
            listen=self.node_listen,
            name="local",
            control_plane=control_plane,
            data_dir=self.data_dir / "node",
            models_dir=self.models,
            slots=self.slots,
            device=self.device,
        )


async def run(config: LocalConfig, *, stop: asyncio.Event, ready: Callable[[str], None]) -> None:
    """Serve until `stop`. ready: called once with the control plane's bound address, when both programs answer.

    Raises what the two programs raise: ConfigError, CannotStart.
    """
    config.models.mkdir(parents=True, exist_ok=True)
    node_stop, plane_stop = asyncio.Event(), asyncio.Event()
    loop = asyncio.get_running_loop()
    plane_ready: asyncio.Future[str] = loop.create_future()
    node_ready: asyncio.Future[str] = loop.create_future()
    try:
        async with asyncio.TaskGroup() as tasks:
            plane = main_control_plane.run(config.control_plane(), stop=plane_stop, ready=plane_ready.set_result)
            tasks.create_task(plane)
            address = await plane_ready
            node = main_trainer_node.run(config.node(address), stop=node_stop, ready=node_ready.set_result)
            node_task = tasks.create_task(node)
            await node_ready
            ready(address)
            await stop.wait()
            # the node first: what it has just learnt still reaches the control plane
            node_stop.set()
            await asyncio.wait([node_task])
            plane_stop.set()
    except BaseExceptionGroup as group:
        raise only(group) from group
