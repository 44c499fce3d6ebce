"""A registry over a fresh database."""

from __future__ import annotations

import pytest

from control_plane.db.pool import Database
from tests.support.registry import Registry


@pytest.fixture
def registry(db: Database) -> Registry:
    return Registry(db)
