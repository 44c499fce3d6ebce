"""Experiments in the database."""

from __future__ import annotations

from control_plane.db.connection import Connection, Row, fetch_all, fetch_one, json_column, message_column, read_message
from control_plane.errors import ExperimentNotFound
from control_plane.experiments.model import Experiment
from tunesmith.v1 import job_spec_pb2


async def get(conn: Connection, experiment_id: str) -> Experiment:
    """One experiment. Raises ExperimentNotFound."""
    row = await fetch_one(conn, "SELECT * FROM experiments WHERE experiment_id = %(id)s", id=experiment_id)
    return _experiment(_found(row, experiment_id))


async def lock(conn: Connection, experiment_id: str) -> Experiment:
    """One experiment, unchanged by others until the transaction ends. Raises ExperimentNotFound."""
    sql = "SELECT * FROM experiments WHERE experiment_id = %(id)s FOR NO KEY UPDATE"
    return _experiment(_found(await fetch_one(conn, sql, id=experiment_id), experiment_id))


async def lock_of_run(conn: Connection, run_id: str) -> None:
    """Keep others from writing to the experiment of a run until the transaction ends."""
    sql = """
        SELECT 1 FROM experiments e JOIN runs r USING (experiment_id) WHERE r.run_id = %(run_id)s
        FOR NO KEY UPDATE OF e
    """
    await fetch_one(conn, sql, run_id=run_id)


async def page(
    conn: Connection, *, name: str = "", id_prefix: str = "", after: str | None = None, limit: int
) -> list[Experiment]:
    """At most `limit` experiments, newest first, beginning after the id `after`."""
    sql = """
        SELECT * FROM experiments
        WHERE (%(name)s = '' OR name = %(name)s) AND starts_with(experiment_id, %(id_prefix)s)
          AND (%(after)s::text IS NULL OR experiment_id < %(after)s)
        ORDER BY experiment_id DESC LIMIT %(limit)s
    """
    rows = await fetch_all(conn, sql, name=name, id_prefix=id_prefix, after=after, limit=limit)
    return [_experiment(row) for row in rows]


async def insert(
    conn: Connection,
    *,
    experiment_id: str,
    name: str,
    description: str,
    dataset_id: str | None,
    default_spec: job_spec_pb2.JobSpec | None,
    labels: dict[str, str],
) -> bool:
    """Store a new experiment; False where the name is taken."""
    sql = """
        INSERT INTO experiments (experiment_id, name, description, dataset_id, default_spec, labels)
        VALUES (%(experiment_id)s, %(name)s, %(description)s, %(dataset_id)s, %(default_spec)s, %(labels)s)
        ON CONFLICT (name) DO NOTHING RETURNING experiment_id
    """
    row = await fetch_one(
        conn,
        sql,
        experiment_id=experiment_id,
        name=name,
        description=description,
        dataset_id=dataset_id,
        default_spec=message_column(default_spec),
        labels=json_column(labels),
    )
    return row is not None


async def update(conn: Connection, experiment: Experiment) -> Experiment:
    """Store the fields that can be changed, as a new revision of the one that was read."""
    sql = """
        UPDATE experiments SET description = %(description)s, dataset_id = %(dataset_id)s,
            default_spec = %(default_spec)s, labels = %(labels)s, revision = revision + 1, update_time = now()
        WHERE experiment_id = %(experiment_id)s RETURNING *
    """
    row = await fetch_one(
        conn,
        sql,
        experiment_id=experiment.experiment_id,
        description=experiment.description,
        dataset_id=experiment.dataset_id,
        default_spec=message_column(experiment.default_spec),
        labels=json_column(experiment.labels),
    )
    return _experiment(_found(row, experiment.experiment_id))


def _found(row: Row | None, experiment_id: str) -> Row:
    if row is None:
        raise ExperimentNotFound(
            f"there is no experiment {experiment_id}; list them with ListExperiments", experiment_id=experiment_id
        )
    return row


def _experiment(row: Row) -> Experiment:
    return Experiment(**{**row, "default_spec": read_message(job_spec_pb2.JobSpec, row["default_spec"])})
