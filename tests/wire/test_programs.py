"""The programs as a whole: they start, serve, refuse what would not work, and stop when told."""

from __future__ import annotations

import asyncio
import signal
import sys
from contextlib import asynccontextmanager
from pathlib import Path

import grpc
import pytest

from control_plane.config import ControlPlaneConfig, DatabaseConfig
from control_plane.errors import CannotStart
from services import main_control_plane, main_local
from services.main_local import LocalConfig
from services.settings import ConfigError
from tunesmith.v1 import node_pb2, node_pb2_grpc, server_pb2, server_pb2_grpc

ANY_PORT = "127.0.0.1:0"


@asynccontextmanager
async def running(program, config):
    """The program's address while it runs; it must have stopped well on the way out."""
    stop, ready = asyncio.Event(), asyncio.get_running_loop().create_future()
    task = asyncio.create_task(program.run(config, stop=stop, ready=ready.set_result))
    await asyncio.wait([task, ready], return_when=asyncio.FIRST_COMPLETED)
    if task.done():
        await task
    yield await ready
    stop.set()
    await asyncio.wait_for(task, 15)


def plane_config(folder: Path, **fields) -> ControlPlaneConfig:
    own = {"listen": ANY_PORT, "blobs": str(folder / "blobs"), "database": DatabaseConfig(data_dir=folder / "pg")}
    return ControlPlaneConfig(**own | fields)


async def server_info(address: str) -> server_pb2.GetServerInfoResponse:
    async with grpc.aio.insecure_channel(address) as channel:
        return await server_pb2_grpc.ServerServiceStub(channel).GetServerInfo(server_pb2.GetServerInfoRequest())


async def test_a_control_plane_with_nothing_prepared_serves_and_keeps_its_data(tmp_path):
    addresses = []
    for _ in range(2):
        async with running(main_control_plane, plane_config(tmp_path)) as address:
            info = await server_info(address)
            addresses.append(address)

    assert info.database == "embedded" and info.schema_version
    assert all(address.startswith("127.0.0.1:") and not address.endswith(":0") for address in addresses)


async def test_with_a_dsn_no_server_of_its_own_is_started(dsn, tmp_path):
    config = plane_config(tmp_path, database=DatabaseConfig(dsn=dsn, data_dir=tmp_path / "pg"))

    async with running(main_control_plane, config) as address:
        info = await server_info(address)

    assert info.database == "external" and not (tmp_path / "pg").exists()


async def test_an_address_that_others_reach_is_refused_before_anything_is_made(tmp_path):
    with pytest.raises(ConfigError, match="insecure = true"):
        async with running(main_control_plane, plane_config(tmp_path, listen="0.0.0.0:0")):
            pass

    assert list(tmp_path.iterdir()) == []


async def test_a_second_control_plane_on_a_port_stops_with_a_sentence(dsn, tmp_path):
    database = DatabaseConfig(dsn=dsn)
    async with running(main_control_plane, plane_config(tmp_path, database=database)) as address:
        with pytest.raises(ConfigError, match=f"{address} cannot be bound"):
            async with running(main_control_plane, plane_config(tmp_path, database=database, listen=address)):
                pass

        assert (await server_info(address)).database == "external"


async def test_a_database_that_is_not_there_is_a_sentence_and_no_traceback(tmp_path):
    database = DatabaseConfig(dsn="postgresql://nobody@127.0.0.1:1/none?connect_timeout=1")

    with pytest.raises(CannotStart):
        async with running(main_control_plane, plane_config(tmp_path, database=database)):
            pass


async def test_everything_in_one_process_is_ready_with_its_node_online(tmp_path):
    config = LocalConfig(data_dir=tmp_path, listen=ANY_PORT, node_listen=ANY_PORT)

    async with running(main_local, config) as address:
        node = await first_node(address)

    assert node.state == node_pb2.NODE_STATE_ONLINE and node.address.startswith("127.0.0.1:")
    assert "supervised" in node.kinds
    assert {path.name for path in tmp_path.iterdir()} >= {"postgres", "blobs", "node", "models"}


async def first_node(address: str) -> node_pb2.Node:
    async with grpc.aio.insecure_channel(address) as channel:
        stub = node_pb2_grpc.NodeServiceStub(channel)
        async with asyncio.timeout(10):
            # another program's doing: there is no event to wait for
            while not (found := (await stub.ListNodes(node_pb2.ListNodesRequest())).nodes):  # noqa: ASYNC110
                await asyncio.sleep(0.05)
    return found[0]


async def test_a_local_installation_that_cannot_start_says_why(tmp_path):
    with pytest.raises(ConfigError, match="insecure = true"):
        async with running(main_local, LocalConfig(data_dir=tmp_path, listen=ANY_PORT, node_listen="0.0.0.0:0")):
            pass


PROGRAM = """
import sys
from pathlib import Path
from services import main_local
from services.logs import configure_logging
from services.process import run_until_signalled
configure_logging()
config = main_local.LocalConfig(data_dir=Path(sys.argv[1]), listen="127.0.0.1:0", node_listen="127.0.0.1:0")
ready = lambda address: print(address, flush=True)
run_until_signalled(lambda stop: main_local.run(config, stop=stop, ready=ready))
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_stops_everything_well(tmp_path, number):
    program = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", PROGRAM, str(tmp_path)),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env={"PYTHONPATH": ".:proto", "PATH": "/usr/bin:/bin", "HOME": str(tmp_path)},
    )
    assert program.stdout is not None
    async with asyncio.timeout(30):
        address = (await program.stdout.readline()).decode()
        program.send_signal(number)
        _, logged = await program.communicate()

    assert address.startswith("127.0.0.1:")
    assert program.returncode == 0, logged.decode()
    lines = logged.decode().splitlines()
    assert lines and all(line.startswith("{") for line in lines), "only our lines, each one JSON object"
