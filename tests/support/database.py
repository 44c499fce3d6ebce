"""A real Postgres for tests: one embedded server a session, and for each test a database of its own.

The schema is migrated once, into a template that every test's database is cloned from.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import AsyncIterator
from pathlib import Path

import psycopg
import pytest
import pytest_asyncio
from psycopg import sql

from control_plane.db.embedded import embedded_postgres
from control_plane.db.migrate import migrate
from control_plane.db.pool import Database, connect

TEMPLATE = "migrated"
FAST = {"fsync": "off", "full_page_writes": "off", "synchronous_commit": "off", "max_connections": "200"}
_numbers = itertools.count(1)


@pytest_asyncio.fixture(scope="session")
async def postgres(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[str]:
    """The DSN of the session's server: an embedded one, or the one that TUNESMITH_TEST_DSN names."""
    if external := os.environ.get("TUNESMITH_TEST_DSN"):
        await _administer(external, sql.SQL("DROP DATABASE IF EXISTS {}").format(sql.Identifier(TEMPLATE)))
        yield external
        return
    folder: Path = tmp_path_factory.mktemp("postgres")
    async with embedded_postgres(folder, settings=FAST) as dsn:
        yield dsn


@pytest_asyncio.fixture(scope="session")
async def migrated_template(postgres: str) -> str:
    """The name of a migrated database that nobody is connected to."""
    await _administer(postgres, sql.SQL("CREATE DATABASE {}").format(sql.Identifier(TEMPLATE)))
    migrate(f"{postgres} dbname={TEMPLATE}")
    return TEMPLATE


@pytest_asyncio.fixture
async def empty_dsn(postgres: str) -> AsyncIterator[str]:
    """The DSN of a fresh database without a schema."""
    async for dsn in _fresh(postgres, "template0"):
        yield dsn


@pytest_asyncio.fixture
async def dsn(postgres: str, migrated_template: str) -> AsyncIterator[str]:
    """The DSN of a fresh, migrated database."""
    async for each in _fresh(postgres, migrated_template):
        yield each


@pytest_asyncio.fixture
async def db(dsn: str) -> AsyncIterator[Database]:
    """A fresh, migrated database, as the registry sees it."""
    async with connect(dsn, pool_size=25) as database:
        yield database


async def _fresh(postgres: str, template: str) -> AsyncIterator[str]:
    name = sql.Identifier(f"test_{next(_numbers)}")
    await _administer(postgres, sql.SQL("CREATE DATABASE {} TEMPLATE {}").format(name, sql.Identifier(template)))
    yield f"{postgres} dbname={name.as_string().strip(chr(34))}"
    await _administer(postgres, sql.SQL("DROP DATABASE {} WITH (FORCE)").format(name))


async def _administer(postgres: str, statement: sql.Composed) -> None:
    async with await psycopg.AsyncConnection.connect(postgres, autocommit=True) as conn:
        await conn.execute(statement)
