"""What a caller may be told of a failure of the database: that it is away, too slow or full. Anything else is a bug."""

from __future__ import annotations

import psycopg
from psycopg import errors

from control_plane.errors import DiskFull
from tunesmith.errors import TunesmithError


class DatabaseAway(TunesmithError):
    """The database cannot be reached or cannot serve now; the same call may succeed in a moment."""

    reason = "UNAVAILABLE"


class QueryTooSlow(TunesmithError):
    """A statement ran into its timeout."""

    reason = "DEADLINE_EXCEEDED"


def expected_failure(error: Exception) -> TunesmithError | None:
    """The failure that `error` stands for, or None where it is none of the database's.

    Whether a commit that failed has happened is unknown: callers repeat it with the same request id.
    """
    if isinstance(error, errors.QueryCanceled):
        return QueryTooSlow("the database did not answer in time; ask for less at a time, or try again")
    if isinstance(error, errors.DiskFull):
        return DiskFull("there is no room left on the database's disk; free some, then try again")
    if isinstance(error, (psycopg.OperationalError, psycopg.InterfaceError, errors.ReadOnlySqlTransaction)):
        return DatabaseAway("the database is not reachable right now; try again in a moment")
    return None
