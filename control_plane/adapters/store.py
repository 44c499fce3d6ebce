"""Adapters and their reports in the database."""

from __future__ import annotations

from collections.abc import Sequence

from control_plane import reports
from control_plane.adapters.model import Adapter
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
from control_plane.errors import AdapterNotFound
from control_plane.experiments import store as experiments
from tunesmith.v1 import blob_pb2, job_event_pb2


async def get(conn: Connection, adapter_id: str) -> Adapter:
    """One adapter. Raises AdapterNotFound."""
    sql = """
        SELECT adapter_id, name, version, run_id, experiment_id, dataset_version_id, start_adapter_id, base_model,
               final_loss, files, training_config, labels, revision, create_time
        FROM adapters WHERE adapter_id = %(id)s
    """
    return _adapter(_found(await fetch_one(conn, sql, id=adapter_id), adapter_id))


async def lock(conn: Connection, adapter_id: str) -> None:
    """Keep others from changing an adapter until the transaction ends."""
    await fetch_one(conn, "SELECT 1 FROM adapters WHERE adapter_id = %(id)s FOR NO KEY UPDATE", id=adapter_id)


async def page(
    conn: Connection,
    *,
    experiment_id: str | None = None,
    name: str = "",
    id_prefix: str = "",
    start_adapter_id: str | None = None,
    after: str | None = None,
    limit: int,
) -> list[Adapter]:
    """At most `limit` adapters, newest first, beginning after the id `after`.

    start_adapter_id: only those trained from this one.
    """
    sql = """
        SELECT adapter_id, name, version, run_id, experiment_id, dataset_version_id, start_adapter_id, base_model,
               final_loss, files, training_config, labels, revision, create_time
        FROM adapters
        WHERE (%(experiment_id)s::text IS NULL OR experiment_id = %(experiment_id)s)
          AND (%(start_adapter_id)s::text IS NULL OR start_adapter_id = %(start_adapter_id)s)
          AND (%(name)s = '' OR name = %(name)s) AND starts_with(adapter_id, %(id_prefix)s)
          AND (%(after)s::text IS NULL OR adapter_id < %(after)s)
        ORDER BY adapter_id DESC LIMIT %(limit)s
    """
    rows = await fetch_all(
        conn,
        sql,
        experiment_id=experiment_id or None,
        name=name,
        id_prefix=id_prefix,
        start_adapter_id=start_adapter_id or None,
        after=after,
        limit=limit,
    )
    return [_adapter(row) for row in rows]


async def report(conn: Connection, adapter_id: str) -> reports.Report:
    """The report of the run that made an adapter. Raises AdapterNotFound."""
    sql = "SELECT report, report_markdown FROM adapters WHERE adapter_id = %(id)s"
    return reports.read(_found(await fetch_one(conn, sql, id=adapter_id), adapter_id))


async def insert(
    conn: Connection,
    *,
    adapter_id: str,
    run_id: str,
    files: Sequence[blob_pb2.File],
    base_model: str,
    training_config: job_event_pb2.TrainingConfig,
    report: job_event_pb2.TrainingReport,
    report_markdown: str,
) -> None:
    """Register the adapter of a run, under its experiment's name and that name's next version.

    The experiment's row is locked first, so that two runs that end at once get two versions.
    """
    await experiments.lock_of_run(conn, run_id)
    sql = """
        INSERT INTO adapters (adapter_id, name, version, run_id, experiment_id, dataset_version_id,
                              start_adapter_id, base_model, final_loss, files, training_config, report, report_markdown)
        SELECT %(adapter_id)s, e.name, 1 + coalesce((SELECT max(version) FROM adapters a WHERE a.name = e.name), 0),
               r.run_id, r.experiment_id, r.dataset_version_id, r.start_adapter_id, %(base_model)s,
               %(final_loss)s, %(files)s, %(training_config)s, %(report)s, %(report_markdown)s
        FROM runs r JOIN experiments e USING (experiment_id) WHERE r.run_id = %(run_id)s
        RETURNING adapter_id
    """
    await fetch_one(
        conn,
        sql,
        adapter_id=adapter_id,
        run_id=run_id,
        base_model=base_model,
        final_loss=report.final_loss,
        files=files_column(files),
        training_config=message_column(training_config),
        report=message_column(report),
        report_markdown=storable(report_markdown),
    )


async def set_labels(conn: Connection, adapter_id: str, labels: dict[str, str]) -> None:
    """Replace an adapter's labels, as a new revision."""
    sql = """
        UPDATE adapters SET labels = %(labels)s, revision = revision + 1 WHERE adapter_id = %(id)s RETURNING adapter_id
    """
    await fetch_one(conn, sql, id=adapter_id, labels=json_column(labels))


def _found(row: Row | None, adapter_id: str) -> Row:
    if row is None:
        raise AdapterNotFound(f"there is no adapter {adapter_id}; list them with ListAdapters", adapter_id=adapter_id)
    return row


def _adapter(row: Row) -> Adapter:
    read = {
        "files": read_files(row["files"]),
        "training_config": read_message(job_event_pb2.TrainingConfig, row["training_config"]),
    }
    return Adapter(**{**row, **read})
