"""Brings a database to the schema of this program, at start.

Several control planes may start at once: one migrates under an advisory lock, the others wait and then find nothing to
do. All migrations run in one transaction, so a database is at the old schema or at the new one. A database of a newer
program is refused: an older one would write what the newer has forbidden.
"""

from __future__ import annotations

from pathlib import Path

import psycopg
import structlog
from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from psycopg.errors import InsufficientPrivilege
from sqlalchemy import Connection, create_engine, text
from sqlalchemy.exc import OperationalError, ProgrammingError
from sqlalchemy.pool import NullPool

from control_plane.errors import DatabaseTooNew, DatabaseTooOld, DatabaseUnreachable, DatabaseUnsuitable

log = structlog.get_logger()

SCRIPTS = Path(__file__).parent / "migrations"
OLDEST_SERVER = 15
LOCK = 0x74756E65  # any number of our own


def migrate(dsn: str) -> None:
    """Migrate the database of `dsn`, any libpq connection string. Blocks; run it in a thread.

    Raises DatabaseTooNew, DatabaseTooOld, DatabaseUnsuitable, DatabaseUnreachable.
    """
    try:
        psycopg.conninfo.conninfo_to_dict(dsn)
    except psycopg.ProgrammingError as error:
        what = f"the DSN cannot be read: {_one_line(error)}; it is a libpq connection string"
        raise DatabaseUnreachable(what) from error
    engine = create_engine("postgresql+psycopg://", creator=lambda: psycopg.connect(dsn), poolclass=NullPool)
    try:
        with engine.begin() as connection:
            _migrate(connection)
    except ProgrammingError as error:
        if not isinstance(error.orig, InsufficientPrivilege):
            raise
        what = f"the role of the DSN may not use the database: {_one_line(error.orig)}"
        raise DatabaseUnsuitable(f"{what}; give a role that owns the database, or grant it that") from error
    except OperationalError as error:
        raise DatabaseUnreachable(f"the database cannot be used: {_one_line(error.orig)}; check the DSN") from error
    finally:
        engine.dispose()


def _one_line(error: BaseException | None) -> str:
    return " ".join(str(error).split())


def _migrate(connection: Connection) -> None:
    _require_server(connection)
    connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": LOCK})
    config = Config()
    config.set_main_option("script_location", str(SCRIPTS).replace("%", "%%"))
    config.attributes["connection"] = connection
    scripts = ScriptDirectory.from_config(config)
    known = {script.revision for script in scripts.walk_revisions()}
    found = MigrationContext.configure(connection).get_current_heads()
    if not known.issuperset(found):
        raise DatabaseTooNew(
            f"the database is at revision {', '.join(found)}, which this program does not know (its newest is "
            f"{scripts.get_current_head()}); update tunesmith, or use another database"
        )
    if found != (scripts.get_current_head(),):
        command.upgrade(config, "head")
        log.info("database_migrated", from_revision=", ".join(found) or None, to_revision=scripts.get_current_head())


def _require_server(connection: Connection) -> None:
    version = str(connection.execute(text("SHOW server_version")).scalar_one())
    number = int(connection.execute(text("SHOW server_version_num")).scalar_one())
    if number < OLDEST_SERVER * 10_000:
        raise DatabaseTooOld(
            f"the server is Postgres {version}; tunesmith needs {OLDEST_SERVER} or newer: update it, or give no DSN "
            "and use the embedded one"
        )
    encoding = str(connection.execute(text("SHOW server_encoding")).scalar_one())
    if encoding != "UTF8":
        what = f"the database's encoding is {encoding}, which cannot hold every prompt"
        raise DatabaseUnsuitable(f"{what}; make one with CREATE DATABASE … ENCODING 'UTF8' TEMPLATE template0")
    if connection.execute(text("SHOW transaction_read_only")).scalar_one() == "on":
        raise DatabaseUnsuitable(
            "the database is read-only, a standby perhaps; give the DSN of one that can be written"
        )
