"""The embedded server's life: made once, owned by one, ended with its owner, and whole after any death."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from control_plane.config import DatabaseConfig
from control_plane.db import embedded, leftovers
from control_plane.db.binaries import Binaries
from control_plane.db.embedded import embedded_postgres
from control_plane.db.pool import open_database
from control_plane.errors import DataFolderInUse, EmbeddedUnavailable

REPOSITORY = Path(__file__).parents[2]
OWNER = """
import asyncio, os, sys, threading
from pathlib import Path
from control_plane.db.embedded import embedded_postgres
async def own():
    async with embedded_postgres(Path(sys.argv[1])) as dsn:
        print(dsn, flush=True)
        sys.stdin.readline() or os._exit(9)
def run(): asyncio.run(own())
if "in a thread" in sys.argv:
    thread = threading.Thread(target=run); thread.start(); thread.join()
else:
    run()
"""
DEADLINE_S = 60.0


async def write(dsn: str, word: str) -> list[str]:
    """Store a word; all the words that are stored."""
    async with await psycopg.AsyncConnection.connect(dsn, autocommit=True) as conn:
        await conn.execute("CREATE TABLE IF NOT EXISTS words (word text)")
        await conn.execute("INSERT INTO words VALUES (%s)", (word,))
        return [row[0] for row in await (await conn.execute("SELECT word FROM words ORDER BY 1")).fetchall()]


def postmaster(folder: Path) -> int:
    return int((folder / "pg" / "postmaster.pid").read_text().splitlines()[0])


def running(folder: Path) -> set[int]:
    """Processes of a server over the folder, those of one that is dying included."""
    return leftovers._servers_in(folder / "pg")


@contextlib.contextmanager
def owner(
    folder: Path, *words: str, python: str = sys.executable, **options: object
) -> Iterator[subprocess.Popen[str]]:
    """A process of its own that has started a server over the folder."""
    path = os.pathsep.join([str(REPOSITORY), str(REPOSITORY / "proto"), *filter(None, sys.path)])
    process = subprocess.Popen(
        [python, "-c", OWNER, str(folder), *words],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": path, "PYTHONDONTWRITEBYTECODE": "1"},
        cwd="/",
        **options,
    )
    assert process.stdin and process.stdout
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def first_line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


async def gone(folder: Path) -> float:
    """Seconds until no server runs over the folder."""
    begun = time.monotonic()
    while running(folder):
        assert time.monotonic() - begun < DEADLINE_S, "the server goes on"
        await asyncio.sleep(0.01)
    return time.monotonic() - begun


async def test_rows_outlive_a_stop_and_a_start_and_the_socket_is_private(tmp_path: Path):
    async with embedded_postgres(tmp_path / "pg data") as dsn:
        await write(dsn, "one")
        assert [(tmp_path / "pg data" / "run").stat().st_mode & 0o777] == [0o700]
        assert sorted(entry.name for entry in (tmp_path / "pg data" / "run").iterdir())[0] == ".s.PGSQL.5432"
    assert not running(tmp_path / "pg data")

    async with embedded_postgres(tmp_path / "pg data") as dsn:
        assert await write(dsn, "two") == ["one", "two"]
        async with await psycopg.AsyncConnection.connect(dsn) as conn:
            cursor = await conn.execute("SELECT current_setting('listen_addresses')")
            assert await cursor.fetchone() == ("",)


async def test_a_second_owner_of_the_folder_is_refused_with_a_sentence(tmp_path: Path):
    async with embedded_postgres(tmp_path) as dsn:
        with pytest.raises(DataFolderInUse) as caught:
            async with open_database(DatabaseConfig(data_dir=tmp_path)):
                pass

        assert str(caught.value) == (
            f"the data folder {tmp_path} is in use by another control plane (process {os.getpid()}); "
            "stop that one, or choose another folder"
        )
        assert caught.value.exit_code == 9
        assert await write(dsn, "undisturbed") == ["undisturbed"]


async def test_a_server_that_is_killed_is_started_again_with_its_rows(tmp_path: Path):
    async with embedded_postgres(tmp_path) as dsn:
        await write(dsn, "one")
        first = postmaster(tmp_path)

        os.kill(first, signal.SIGKILL)

        async with asyncio.timeout(DEADLINE_S):
            while True:
                with contextlib.suppress(psycopg.OperationalError):
                    assert await write(dsn, "two") == ["one", "two"]
                    break
                await asyncio.sleep(0.01)
        assert postmaster(tmp_path) != first


async def test_a_pool_goes_on_after_the_server_was_killed(tmp_path: Path):
    async with open_database(DatabaseConfig(data_dir=tmp_path)) as db:
        with db.hub.subscribe("queue") as woken:
            os.kill(postmaster(tmp_path), signal.SIGKILL)

            async with asyncio.timeout(DEADLINE_S):
                while True:
                    with contextlib.suppress(psycopg.OperationalError):
                        async with db.transaction() as conn:
                            await conn.execute("SELECT pg_notify('tunesmith', 'queue')")
                        break
                await woken.wait()  # by the notification, or because one may have been missed


async def test_the_server_is_gone_soon_after_its_owner_was_killed(tmp_path: Path):
    with owner(tmp_path) as process:
        await write(first_line(process), "one")

        process.kill()
        assert await gone(tmp_path) < 10

    async with embedded_postgres(tmp_path) as dsn:
        assert await write(dsn, "two") == ["one", "two"]


async def test_a_server_that_outlived_its_owner_is_ended_and_its_rows_are_kept(tmp_path: Path):
    with owner(tmp_path, "in a thread") as process:
        await write(first_line(process), "one")
        orphan = postmaster(tmp_path)
        process.kill()
        process.wait()
        assert orphan in running(tmp_path)

        async with embedded_postgres(tmp_path) as dsn:
            assert await write(dsn, "two") == ["one", "two"]
            assert postmaster(tmp_path) != orphan


async def test_a_pid_file_that_names_a_stranger_does_not_hinder_the_start(tmp_path: Path):
    async with embedded_postgres(tmp_path) as dsn:
        await write(dsn, "one")
        pid_file = tmp_path / "pg" / "postmaster.pid"
        lines = pid_file.read_text().splitlines()
    with subprocess.Popen(["sleep", "60"]) as stranger:  # noqa: ASYNC220  returns at once
        pid_file.write_text("\n".join([str(stranger.pid), *lines[1:]]) + "\n")

        async with embedded_postgres(tmp_path) as dsn:
            assert await write(dsn, "two") == ["one", "two"]

        assert stranger.poll() is None
        stranger.kill()


async def test_a_half_made_cluster_is_made_again(tmp_path: Path):
    partial = tmp_path / "pg.partial"
    partial.mkdir()
    (partial / "PG_VERSION").write_text("18\n")

    async with embedded_postgres(tmp_path) as dsn:
        assert await write(dsn, "one") == ["one"]

    assert not partial.exists()


async def test_a_folder_of_another_version_is_refused_with_a_sentence(tmp_path: Path):
    (tmp_path / "pg").mkdir()
    (tmp_path / "pg" / "PG_VERSION").write_text("12\n")

    with pytest.raises(
        EmbeddedUnavailable, match=r"was made by Postgres 12, and here is .*; install version 12, or dump"
    ):
        async with embedded_postgres(tmp_path):
            pass


async def test_a_folder_that_cannot_be_used_is_refused_with_a_sentence(tmp_path: Path):
    (tmp_path / "file").write_text("")

    with pytest.raises(EmbeddedUnavailable, match=r"cannot be used: .*; choose another"):
        async with embedded_postgres(tmp_path / "file"):
            pass


async def test_a_path_too_long_for_a_socket_is_no_hindrance(tmp_path: Path):
    folder = tmp_path / ("long" * 30)
    for word in ("one", "two"):
        async with embedded_postgres(folder) as dsn:
            await write(dsn, word)
            sockets = (folder / "run").readlink()
            assert sockets.stat().st_mode & 0o777 == 0o700
        assert not sockets.exists()


async def test_settings_of_the_callers_environment_do_not_steer_the_server(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("PGPORT", "6543")
    monkeypatch.setenv("PGDATA", "/nowhere")
    monkeypatch.setenv("PGDATABASE", "nowhere")

    async with embedded_postgres(tmp_path) as dsn:
        assert await write(dsn, "one") == ["one"]


async def test_a_server_that_cannot_start_is_refused_with_what_it_said(tmp_path: Path):
    with pytest.raises(EmbeddedUnavailable, match=r"did not start: .*no_such_setting"):
        async with embedded_postgres(tmp_path, settings={"no_such_setting": "1"}):
            pass
    assert not running(tmp_path)


async def test_it_is_up_within_half_a_second_once_it_has_been_made(tmp_path: Path):
    async with embedded_postgres(tmp_path):
        pass

    begun = time.monotonic()
    async with embedded_postgres(tmp_path):
        took = time.monotonic() - begun

    assert took < 5, "0.05 s on an idle machine; the bound leaves room for a busy one"


@pytest.mark.skipif(os.geteuid() != 0, reason="every other test here runs as a user already")
async def test_it_runs_as_a_user_too():
    nobody = {"user": 65534, "group": 65534, "extra_groups": []}
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    usable = [python for python in (sys.executable, f"/usr/bin/{version}") if _runs(python, nobody)]
    if not usable:
        pytest.skip("user nobody can run no interpreter that could import this")
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o777)
        with owner(Path(folder, "data"), python=usable[0], **nobody) as process:
            dsn = first_line(process)
            assert await write(dsn, "one") == ["one"]
            assert Path(folder, "data", "pg").stat().st_uid == 65534
            process.kill()
            await gone(Path(folder, "data"))


def _runs(python: str, who: dict[str, object]) -> bool:
    path = os.pathsep.join([str(REPOSITORY), str(REPOSITORY / "proto"), *filter(None, sys.path)])
    with contextlib.suppress(OSError):
        tried = subprocess.run(
            [python, "-c", "import control_plane.db.embedded"],
            env={"PYTHONPATH": path},
            cwd="/",
            capture_output=True,
            check=False,
            **who,
        )
        return tried.returncode == 0
    return False


def test_only_the_main_thread_ties_the_server_to_itself():
    assert embedded._die_with_owner()


async def test_a_folder_of_another_user_is_refused_with_a_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    async with embedded_postgres(tmp_path):
        pass
    monkeypatch.setattr(os, "geteuid", lambda: 4_000_000_000)

    with pytest.raises(EmbeddedUnavailable, match=r"was made by user .+, and this is 4000000000; start tunesmith as"):
        async with embedded_postgres(tmp_path):
            pass


async def test_too_little_room_for_a_new_database_is_said_as_such(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    initdb = tmp_path / "initdb"
    initdb.write_text("#!/bin/sh\necho 'could not write to file: No space left on device'; exit 1\n")
    initdb.chmod(0o755)

    async def found(_: object) -> Binaries:
        return Binaries(tmp_path, 18)

    monkeypatch.setattr(embedded, "find_binaries", found)
    with pytest.raises(EmbeddedUnavailable, match=r"no room for a new database in .+: free some space"):
        async with embedded_postgres(tmp_path / "data"):
            pass
