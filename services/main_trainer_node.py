"""The trainer node: composition root.

Trainings are processes of their own. When this program goes down they train on into their spools, and when it comes
back it finds them again.
"""

from __future__ import annotations

import asyncio
import importlib.metadata
import socket
from collections.abc import Callable, Iterator
from contextlib import AsyncExitStack, contextmanager
from pathlib import Path

import structlog

from services.blob_service import BlobService
from services.blob_store import BlobStore
from services.node_registration import ControlPlaneLink, open_channel
from services.rpc.server import build_server, require_local, serving
from services.settings import ConfigError
from services.trainer_service import TrainerService
from trainer_node.config import TrainerNodeConfig
from trainer_node.durable import AlreadyHeld, held
from trainer_node.jobs import Jobs
from trainer_node.machine import device_name
from tunesmith.v1 import node_pb2

log = structlog.get_logger()


async def run(config: TrainerNodeConfig, *, stop: asyncio.Event, ready: Callable[[str], None]) -> None:
    """Serve until `stop`. ready: called once with the bound address, when calls are answered.

    Raises ConfigError with a sentence for whoever starts it.
    """
    require_local(config.listen, insecure=config.insecure)
    async with AsyncExitStack() as stack:
        link = ControlPlaneLink(await stack.enter_async_context(open_channel(config.control_plane)))
        jobs = Jobs(config, link)
        blobs = BlobStore(str(config.blobs_dir))
        stack.enter_context(_only_user(config.data_dir))
        services = [TrainerService(jobs), BlobService(blobs)]
        # Bound before the jobs are taken over: a second node on the same port stops here and touches none of them.
        server = build_server(services, listen=config.listen, insecure=config.insecure)
        await stack.enter_async_context(jobs)
        address = await stack.enter_async_context(serving(server))
        node = describe_node(config, address=address, kinds=jobs.kinds)
        log.info("trainer_node_ready", address=address, name=node.name, device=node.device, slots=node.slots)
        ready(address)
        async with asyncio.TaskGroup() as tasks:
            registration = tasks.create_task(link.stay_registered(node))
            await stop.wait()
            registration.cancel()
        log.info("trainer_node_stopping", address=address, jobs_left_running=jobs.running)


@contextmanager
def _only_user(data_dir: Path) -> Iterator[None]:
    """Refuse a data folder that another node uses: two would start each other's jobs."""
    data_dir.mkdir(parents=True, exist_ok=True)
    try:
        with held(data_dir / "node.lock"):
            yield
    except AlreadyHeld as error:
        what = f"node.data_dir: {data_dir} is used by another trainer node"
        raise ConfigError(f"{what}; stop that one, or give this one a folder of its own") from error


def describe_node(config: TrainerNodeConfig, *, address: str, kinds: list[str]) -> node_pb2.Node:
    """How the node introduces itself. address: the one it is bound to."""
    return node_pb2.Node(
        name=config.node_name,
        address=config.advertise or _reachable(address),
        kinds=kinds,
        slots=config.slots,
        device=device_name(config.device),
        version=importlib.metadata.version("tunesmith"),
    )


def _reachable(address: str) -> str:
    """The address for others: the host's name where the server listens on all of its addresses."""
    host, _, port = address.rpartition(":")
    return f"{socket.gethostname()}:{port}" if host in ("0.0.0.0", "[::]", "") else address
