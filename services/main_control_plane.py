"""The control plane: composition root.

The database comes first and goes last: embedded Postgres has to be started from the main thread and before gRPC. The
port is bound before anything is ready, so that a second control plane on it stops at once.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import AsyncExitStack

import structlog

from control_plane.config import ControlPlaneConfig
from control_plane.db.failures import expected_failure
from control_plane.db.notify import QUEUE
from control_plane.db.pool import Database, open_database
from control_plane.db.schema import schema_version
from control_plane.loops.dispatch import Dispatch
from control_plane.loops.ingest import Ingest
from control_plane.loops.prune import Prune
from control_plane.loops.reap import Reap
from control_plane.loops.supervise import supervise
from control_plane.ports import AudioInspector, Blobs
from services.adapter_service import AdapterService
from services.audio_inspector import SubprocessAudioInspector
from services.blob_service import BlobService
from services.blob_store import BlobStore
from services.dataset_service import DatasetService
from services.experiment_service import ExperimentService
from services.model_service import ModelService
from services.node_service import NodeService
from services.rpc.server import build_server, require_local, serving
from services.run_service import RunService
from services.server_service import ServerFacts, ServerService
from services.telemetry_service import TelemetryService
from services.trainer_client import TrainerClients

FOLLOW_S = 0.25  # a job that was just started is followed this soon

log = structlog.get_logger()


async def run(config: ControlPlaneConfig, *, stop: asyncio.Event, ready: Callable[[str], None]) -> None:
    """Serve until `stop`. ready: called once with the bound address, when calls are answered.

    Raises ConfigError or CannotStart, each with a sentence for whoever starts it.
    """
    require_local(config.listen, insecure=config.insecure)
    async with AsyncExitStack() as stack:
        db = await stack.enter_async_context(open_database(config.database))
        blobs = BlobStore(config.blobs)
        async with db.connection() as conn:
            facts = ServerFacts(
                database="external" if config.database.dsn else "embedded", schema_version=await schema_version(conn)
            )
        server = build_server(
            servicers(db, blobs, SubprocessAudioInspector(blobs), facts),
            listen=config.listen,
            insecure=config.insecure,
            translate=expected_failure,
        )
        trainers = await stack.enter_async_context(TrainerClients())
        address = await stack.enter_async_context(serving(server))
        log.info("control_plane_ready", address=address, database=facts.database, insecure=config.insecure)
        ready(address)
        await _work(config, db, blobs, trainers, stop)
        log.info("control_plane_stopping", address=address)


def servicers(db: Database, blobs: BlobStore, inspector: AudioInspector, facts: ServerFacts) -> list[object]:
    """Every service of the control plane."""
    return [
        ExperimentService(db),
        DatasetService(db, blobs, inspector),
        RunService(db, blobs),
        AdapterService(db, blobs),
        ModelService(db, blobs),
        TelemetryService(db),
        NodeService(db),
        BlobService(blobs),
        ServerService(facts),
    ]


async def _work(
    config: ControlPlaneConfig, db: Database, blobs: Blobs, trainers: TrainerClients, stop: asyncio.Event
) -> None:
    """Everything that happens by itself, until `stop`. One loop that dies stops the program."""
    poll_s = config.dispatch.poll_s
    dispatch = Dispatch(db, trainers, config.dispatch)
    reap = Reap(db, config.dispatch)
    prune = Prune(db, config.prune)
    async with AsyncExitStack() as stack:
        ingest = await stack.enter_async_context(Ingest(db, trainers, blobs, config.dispatch))
        queued = stack.enter_context(db.hub.subscribe(QUEUE))
        tasks = await stack.enter_async_context(asyncio.TaskGroup())
        tasks.create_task(supervise("dispatch", dispatch.tick, every_s=poll_s, stop=stop, wake=queued))
        tasks.create_task(supervise("ingest", ingest.tick, every_s=min(poll_s, FOLLOW_S), stop=stop))
        tasks.create_task(supervise("reap", reap.tick, every_s=poll_s, stop=stop))
        tasks.create_task(supervise("prune", prune.tick, every_s=config.prune.every_s, stop=stop))
