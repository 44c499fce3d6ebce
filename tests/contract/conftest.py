"""One control plane for all tests of the contract."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest_asyncio

from control_plane.config import DatabaseConfig
from control_plane.db.pool import open_database
from tests.support.control_plane import Plane, running_plane


@pytest_asyncio.fixture(scope="session")
async def plane(tmp_path_factory) -> AsyncIterator[Plane]:
    """A running control plane without loops."""
    folder = tmp_path_factory.mktemp("plane")
    config = DatabaseConfig(data_dir=folder / "postgres")
    async with open_database(config) as db, running_plane(db, folder / "blobs") as plane:
        yield plane
