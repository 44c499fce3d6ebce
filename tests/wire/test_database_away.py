"""What callers are told when the database is away, slow or full."""

from __future__ import annotations

import grpc
import psycopg
import pytest
from psycopg import errors, sql
from psycopg.conninfo import conninfo_to_dict
from psycopg_pool import PoolClosed, PoolTimeout

from control_plane.db import pool
from control_plane.db.failures import expected_failure
from tests.support.control_plane import running_plane
from tests.support.edge import refusal
from tunesmith.v1 import run_pb2


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (PoolTimeout("couldn't get a connection"), "UNAVAILABLE"),
        (PoolClosed("the pool is closed"), "UNAVAILABLE"),
        (psycopg.OperationalError("server closed the connection unexpectedly"), "UNAVAILABLE"),
        (psycopg.InterfaceError("the connection is closed"), "UNAVAILABLE"),
        (errors.AdminShutdown("terminating connection"), "UNAVAILABLE"),
        (errors.DeadlockDetected("deadlock detected"), "UNAVAILABLE"),
        (errors.ReadOnlySqlTransaction("cannot execute INSERT"), "UNAVAILABLE"),
        (errors.QueryCanceled("canceling statement due to statement timeout"), "DEADLINE_EXCEEDED"),
        (errors.DiskFull("could not extend file"), "DISK_FULL"),
    ],
)
def test_a_failure_of_the_database_has_a_reason_and_a_next_step(error, reason):
    failure = expected_failure(error)

    assert failure is not None and failure.reason == reason
    assert ";" in failure.message


@pytest.mark.parametrize("error", [errors.UniqueViolation("bug"), errors.UndefinedTable("bug"), ValueError("bug")])
def test_a_bug_is_no_failure_of_the_database(error):
    assert expected_failure(error) is None


async def test_while_the_database_is_away_calls_are_unavailable_and_then_go_on(dsn, postgres, tmp_path, monkeypatch):
    monkeypatch.setattr(pool, "BORROW_TIMEOUT_S", 0.3)
    name = sql.Identifier(str(conninfo_to_dict(dsn)["dbname"]))
    async with pool.connect(dsn, pool_size=2) as db, running_plane(db, tmp_path) as plane:
        async with await psycopg.AsyncConnection.connect(postgres, autocommit=True) as admin:
            await admin.execute(sql.SQL("ALTER DATABASE {} ALLOW_CONNECTIONS false").format(name))
            ended = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s"
            await admin.execute(ended, [conninfo_to_dict(dsn)["dbname"]])
            refused = await refusal(plane.runs.ListRuns(run_pb2.ListRunsRequest()))
            await admin.execute(sql.SQL("ALTER DATABASE {} ALLOW_CONNECTIONS true").format(name))
        monkeypatch.undo()
        db.pool.timeout = 20  # reconnecting backs off
        answer = await plane.runs.ListRuns(run_pb2.ListRunsRequest(), timeout=25)

    assert (refused.code, refused.reason, refused.retry_s) == (grpc.StatusCode.UNAVAILABLE, "UNAVAILABLE", 1.0)
    assert "psycopg" not in refused.text and "connection" not in refused.text
    assert list(answer.runs) == []
