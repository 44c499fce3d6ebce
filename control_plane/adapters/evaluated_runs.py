"""The runs that an evaluation rests on, looked up.

runs.store is not asked, since runs know of adapters, and not the other way round.
"""

from __future__ import annotations

from control_plane.adapters.model import NewEvaluation
from control_plane.db.connection import Connection, fetch_one
from control_plane.errors import RunNotFound
from tunesmith.errors import InvalidField
from tunesmith.evaluated_runs import EvaluatedRun, problems


async def require(conn: Connection, new: NewEvaluation) -> None:
    """Raise RunNotFound for a run that nobody has, InvalidField where one does not play what is measured."""
    before, after = await _run(conn, new.before_run_id), await _run(conn, new.after_run_id)
    if found := list(problems(new.adapter_id, before, after)):
        raise InvalidField.of(found)


async def _run(conn: Connection, run_id: str | None) -> EvaluatedRun | None:
    if run_id is None:
        return None
    sql = """
        SELECT run_id, kind, start_adapter_id AS player, spec -> 'generate' -> 'generation' AS generation,
               coalesce(spec -> 'generate' -> 'player' ->> 'base_model', '') AS base_model
        FROM runs WHERE run_id = %(run_id)s
    """
    row = await fetch_one(conn, sql, run_id=run_id)
    if row is None:
        raise RunNotFound(f"there is no run {run_id}; list them with ListRuns", run_id=run_id)
    return EvaluatedRun(**row)
