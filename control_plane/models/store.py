"""Language models and their reports in the database."""

from __future__ import annotations

from collections.abc import Sequence

from control_plane import reports
from control_plane.db.connection import (
    Connection,
    Row,
    fetch_all,
    fetch_one,
    files_column,
    json_column,
    message_column,
    read_files,
    read_message,
    storable,
)
from control_plane.errors import ModelNotFound
from control_plane.experiments import store as experiments
from control_plane.models.model import Model
from tunesmith.v1 import blob_pb2, job_event_pb2


async def get(conn: Connection, model_id: str) -> Model:
    """One model. Raises ModelNotFound."""
    sql = """
        SELECT model_id, name, version, run_id, experiment_id, final_loss, best_loss, files, training_config, labels,
               revision, create_time
        FROM models WHERE model_id = %(id)s
    """
    return _model(_found(await fetch_one(conn, sql, id=model_id), model_id))


async def lock(conn: Connection, model_id: str) -> None:
    """Keep others from changing a model until the transaction ends."""
    await fetch_one(conn, "SELECT 1 FROM models WHERE model_id = %(id)s FOR NO KEY UPDATE", id=model_id)


async def page(
    conn: Connection,
    *,
    experiment_id: str | None = None,
    name: str = "",
    id_prefix: str = "",
    after: str | None = None,
    limit: int,
) -> list[Model]:
    """At most `limit` models, newest first, beginning after the id `after`."""
    sql = """
        SELECT model_id, name, version, run_id, experiment_id, final_loss, best_loss, files, training_config, labels,
               revision, create_time
        FROM models
        WHERE (%(experiment_id)s::text IS NULL OR experiment_id = %(experiment_id)s)
          AND (%(name)s = '' OR name = %(name)s) AND starts_with(model_id, %(id_prefix)s)
          AND (%(after)s::text IS NULL OR model_id < %(after)s)
        ORDER BY model_id DESC LIMIT %(limit)s
    """
    rows = await fetch_all(
        conn, sql, experiment_id=experiment_id or None, name=name, id_prefix=id_prefix, after=after, limit=limit
    )
    return [_model(row) for row in rows]


async def report(conn: Connection, model_id: str) -> reports.Report:
    """The report of the run that made a model. Raises ModelNotFound."""
    sql = "SELECT report, report_markdown FROM models WHERE model_id = %(id)s"
    return reports.read(_found(await fetch_one(conn, sql, id=model_id), model_id))


async def insert(
    conn: Connection,
    *,
    model_id: str,
    run_id: str,
    files: Sequence[blob_pb2.File],
    training_config: job_event_pb2.TrainingConfig,
    report: job_event_pb2.TrainingReport,
    report_markdown: str,
) -> None:
    """Register the model of a run, under its experiment's name and that name's next version.

    The experiment's row is locked first, so that two runs that end at once get two versions.
    """
    await experiments.lock_of_run(conn, run_id)
    sql = """
        INSERT INTO models (model_id, name, version, run_id, experiment_id, final_loss, best_loss, files,
                            training_config, report, report_markdown)
        SELECT %(model_id)s, e.name, 1 + coalesce((SELECT max(version) FROM models m WHERE m.name = e.name), 0),
               r.run_id, r.experiment_id, %(final_loss)s, %(best_loss)s, %(files)s,
               %(training_config)s, %(report)s, %(report_markdown)s
        FROM runs r JOIN experiments e USING (experiment_id) WHERE r.run_id = %(run_id)s
        RETURNING model_id
    """
    await fetch_one(
        conn,
        sql,
        model_id=model_id,
        run_id=run_id,
        final_loss=report.final_loss,
        best_loss=report.best_loss,
        files=files_column(files),
        training_config=message_column(training_config),
        report=message_column(report),
        report_markdown=storable(report_markdown),
    )


async def set_labels(conn: Connection, model_id: str, labels: dict[str, str]) -> None:
    """Replace a model's labels, as a new revision."""
    sql = "UPDATE models SET labels = %(labels)s, revision = revision + 1 WHERE model_id = %(id)s RETURNING model_id"
    await fetch_one(conn, sql, id=model_id, labels=json_column(labels))


def _found(row: Row | None, model_id: str) -> Row:
    if row is None:
        raise ModelNotFound(f"there is no model {model_id}; list them with ListModels", model_id=model_id)
    return row


def _model(row: Row) -> Model:
    read = {
        "files": read_files(row["files"]),
        "training_config": read_message(job_event_pb2.TrainingConfig, row["training_config"]),
    }
    return Model(**{**row, **read})
