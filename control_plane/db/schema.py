"""What the database says about itself."""

from __future__ import annotations

from control_plane.db.connection import Connection, fetch_one


async def schema_version(conn: Connection) -> str:
    """The revision that its migrations have brought it to."""
    row = await fetch_one(conn, "SELECT version_num FROM alembic_version")
    return str(row["version_num"]) if row else ""
