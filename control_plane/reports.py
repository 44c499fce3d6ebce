"""Reports of successful runs. One stands in the row of what its run registered, be that an adapter or a model."""

from __future__ import annotations

from dataclasses import dataclass

from control_plane.db.connection import Connection, Row, fetch_one, read_message
from control_plane.errors import ReportNotReady, RunNotFound
from tunesmith.v1 import job_event_pb2


@dataclass(frozen=True, kw_only=True)
class Report:
    """The report of the run that made an adapter or a model. markdown: the same for people."""

    report: job_event_pb2.TrainingReport
    markdown: str


def read(row: Row) -> Report:
    """The report of a row with the columns `report` and `report_markdown`."""
    report = read_message(job_event_pb2.TrainingReport, row["report"]) or job_event_pb2.TrainingReport()
    return Report(report=report, markdown=row["report_markdown"])


async def of_run(conn: Connection, run_id: str) -> Report:
    """The report of a run. Raises RunNotFound, and ReportNotReady where it has not succeeded."""
    sql = """
        SELECT r.state, coalesce(a.report, m.report) AS report,
               coalesce(a.report_markdown, m.report_markdown) AS report_markdown
        FROM runs r LEFT JOIN adapters a USING (run_id) LEFT JOIN models m USING (run_id)
        WHERE r.run_id = %(id)s
    """
    row = await fetch_one(conn, sql, id=run_id)
    if row is None:
        raise RunNotFound(f"there is no run {run_id}; list them with ListRuns", run_id=run_id)
    if row["report"] is None:
        ended = row["state"] in ("failed", "cancelled")
        advice = "resume it, or start another" if ended else "wait until it has succeeded"
        raise ReportNotReady(
            f"the run is {row['state']} and has no report; {advice}", run_id=run_id, state=row["state"]
        )
    return read(row)
