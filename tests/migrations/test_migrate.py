"""Migrations: one at a time, all or nothing, never backwards."""

from __future__ import annotations

import asyncio

import psycopg
import pytest

from control_plane.db import migrate as module
from control_plane.db.migrate import migrate
from control_plane.errors import DatabaseTooNew, DatabaseTooOld, DatabaseUnreachable, DatabaseUnsuitable


def tables(dsn: str) -> list[str]:
    with psycopg.connect(dsn) as conn:
        sql = "SELECT tablename FROM pg_tables WHERE schemaname = 'public' ORDER BY 1"
        return [row[0] for row in conn.execute(sql).fetchall()]


async def test_an_empty_database_gets_the_schema_and_a_second_time_changes_nothing(empty_dsn: str):
    migrate(empty_dsn)
    first = tables(empty_dsn)

    migrate(empty_dsn)

    assert {"runs", "run_events", "jobs", "requests", "alembic_version"} <= set(first)
    assert tables(empty_dsn) == first


async def test_control_planes_that_start_at_once_migrate_once(empty_dsn: str):
    await asyncio.gather(*(asyncio.to_thread(migrate, empty_dsn) for _ in range(4)))

    with psycopg.connect(empty_dsn) as conn:
        assert conn.execute("SELECT count(*) FROM alembic_version").fetchone() == (1,)


async def test_a_database_newer_than_the_program_is_refused_with_a_sentence(dsn: str):
    with psycopg.connect(dsn) as conn:
        conn.execute("UPDATE alembic_version SET version_num = '9999'")

    with pytest.raises(
        DatabaseTooNew, match=r"is at revision 9999, which this program does not know .*; update tunesmith"
    ):
        migrate(dsn)


async def test_a_migration_that_fails_leaves_nothing(empty_dsn: str, tmp_path, monkeypatch: pytest.MonkeyPatch):
    for name in ("env.py", "versions/0001_registry.py"):
        copy = tmp_path / name
        copy.parent.mkdir(exist_ok=True)
        copy.write_text((module.SCRIPTS / name).read_text())
    (tmp_path / "versions" / "0002_broken.py").write_text(
        "from alembic import op\nrevision = '0002'\ndown_revision = '0001'\n"
        "def upgrade():\n    op.execute('CREATE TABLE half (a int)')\n    op.execute('CREATE TABLE half (a int)')\n"
    )
    monkeypatch.setattr(module, "SCRIPTS", tmp_path)

    with pytest.raises(Exception, match='relation "half" already exists'):
        migrate(empty_dsn)

    assert tables(empty_dsn) == []


async def test_a_server_that_is_too_old_is_refused_with_a_sentence(dsn: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(module, "OLDEST_SERVER", 99)

    with pytest.raises(DatabaseTooOld, match=r"the server is Postgres \d+\.\d+.*; tunesmith needs 99 or newer"):
        migrate(dsn)


def test_a_server_that_is_not_there_is_refused_with_a_sentence(tmp_path):
    with pytest.raises(DatabaseUnreachable, match=r"the database cannot be used: .*; check the DSN"):
        migrate(f"host={tmp_path} dbname=postgres")
    with pytest.raises(DatabaseUnreachable, match=r"the DSN cannot be read: .*; it is a libpq connection string"):
        migrate("postgres:no-dsn")


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ("SET default_transaction_read_only = on", r"is read-only, .*; give the DSN of one that can be written"),
        ("SET role = pg_monitor", r"may not use the database: permission denied .*; give a role that owns"),
    ],
)
async def test_a_database_that_may_not_be_written_is_refused_with_a_sentence(empty_dsn: str, setting: str, said: str):
    with psycopg.connect(empty_dsn, autocommit=True) as conn:
        conn.execute(f"ALTER DATABASE {conn.info.dbname} {setting}".encode())

    with pytest.raises(DatabaseUnsuitable, match=said):
        migrate(empty_dsn)


async def test_a_database_of_another_encoding_is_refused_with_a_sentence(postgres: str):
    create = "CREATE DATABASE latin ENCODING 'LATIN1' LOCALE 'C' TEMPLATE template0"
    with psycopg.connect(postgres, autocommit=True) as conn:
        conn.execute(create.encode())
        try:
            with pytest.raises(DatabaseUnsuitable, match=r"encoding is LATIN1, .*; make one with CREATE DATABASE"):
                migrate(f"{postgres} dbname=latin")
        finally:
            conn.execute(b"DROP DATABASE latin")
