"""The database as the registry sees it: transactions, reads and wake-ups over a pool of connections.

Each connection gives up a statement after 5 s and a transaction that idles after 10 s, so that nothing holds a lock for
longer than a lease lives. What a value makes Postgres refuse becomes InvalidField here; a server that is away becomes
psycopg.OperationalError (PoolTimeout is one), which the edge answers with UNAVAILABLE.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator

import psycopg
import structlog
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg.rows import dict_row
from psycopg_pool import AsyncConnectionPool

from control_plane.config import DatabaseConfig
from control_plane.db.connection import Connection
from control_plane.db.notify import Hub
from control_plane.errors import DatabaseUnreachable
from tunesmith.errors import FieldProblem, InvalidField

log = structlog.get_logger()

SESSION = "-c statement_timeout=5s -c idle_in_transaction_session_timeout=10s -c timezone=UTC"
BORROW_TIMEOUT_S = 5.0
LINK = {  # a server that vanished is noticed within seconds; the user's DSN stands above these
    "connect_timeout": "5",
    "tcp_user_timeout": "5000",
    "keepalives_idle": "5",
    "keepalives_interval": "2",
    "keepalives_count": "3",
    "application_name": "tunesmith",
}


class Database:
    """A pool of connections and a hub of wake-ups."""

    def __init__(self, pool: AsyncConnectionPool[Connection], hub: Hub) -> None:
        self.pool = pool
        self.hub = hub

    @contextlib.asynccontextmanager
    async def transaction(self) -> AsyncIterator[Connection]:
        """A connection in a transaction: committed on the way out, rolled back by an exception."""
        with _values_explained():
            async with self.pool.connection() as conn, conn.transaction():
                yield conn

    @contextlib.asynccontextmanager
    async def connection(self) -> AsyncIterator[Connection]:
        """A connection for reads, each statement by itself."""
        with _values_explained():
            async with self.pool.connection() as conn:
                yield conn


@contextlib.contextmanager
def _values_explained() -> Iterator[None]:
    """The contract refuses most values that Postgres cannot hold; the rest is the caller's fault too, never a bug."""
    try:
        yield
    except psycopg.DataError as error:
        what = (error.diag.message_primary or str(error)).splitlines()[0]
        raise InvalidField.of([FieldProblem("request", f"a value cannot be stored: {what}; change it")]) from error


@contextlib.asynccontextmanager
async def open_database(config: DatabaseConfig) -> AsyncIterator[Database]:
    """The database of `config.dsn`, or an embedded server where there is none: migrated, pooled and listened to.

    Enter from the main thread, and before gRPC starts (see embedded_postgres). Raises CannotStart.
    """
    async with contextlib.AsyncExitStack() as stack:
        dsn = config.dsn
        if not dsn:
            # imported where it is needed, like alembic below: every store imports this module
            from control_plane.db.embedded import embedded_postgres

            dsn = await stack.enter_async_context(embedded_postgres(config.data_dir))
        from control_plane.db.migrate import migrate

        await asyncio.to_thread(migrate, dsn)
        yield await stack.enter_async_context(connect(dsn, pool_size=config.pool_size))


@contextlib.asynccontextmanager
async def connect(dsn: str, *, pool_size: int) -> AsyncIterator[Database]:
    """A database that is up and migrated."""
    given = conninfo_to_dict(dsn)
    options = f"{SESSION} {given.get('options') or ''}".strip()
    conninfo = make_conninfo("", **{**LINK, **given, "options": options})
    pool: AsyncConnectionPool[Connection] = AsyncConnectionPool(
        conninfo,
        min_size=min(2, pool_size),
        max_size=pool_size,
        timeout=BORROW_TIMEOUT_S,
        open=False,
        check=AsyncConnectionPool.check_connection,  # a connection that died while it lay idle is replaced, unseen
        kwargs={"row_factory": dict_row, "autocommit": True},
        name="tunesmith",
    )
    hub = Hub()
    async with pool:
        try:
            await pool.wait(BORROW_TIMEOUT_S)
        except psycopg.OperationalError as error:
            raise DatabaseUnreachable(f"the database did not answer within {BORROW_TIMEOUT_S:.0f} s") from error
        listener = asyncio.create_task(hub.listen(conninfo), name="listen")
        try:
            yield Database(pool, hub)
        finally:
            listener.cancel()
            await asyncio.wait([listener])
