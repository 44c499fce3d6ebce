"""Reports of successful runs. One stands in the row of what its run registered, be that an adapter or a model."""

from __future__ import annotations

from dataclasses import dataclass

from control_plane.db.connection import Connection, Row, fetch_one, read_message
from control_plane.errors import ReportNotReady, RunNotFound
from control_plane.runs.model import LEAVES, Leaves
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
    """The report of a run. Raises RunNotFound, and ReportNotReady where it has not succeeded or leaves clips."""
    sql = """
        SELECT r.state, r.kind, coalesce(a.report, m.report) AS report,
               coalesce(a.report_markdown, m.report_markdown) AS report_markdown
        FROM runs r LEFT JOIN adapters a USING (run_id) LEFT JOIN models m USING (run_id)
        WHERE r.run_id = %(id)s
    """
    row = await fetch_one(conn, sql, id=run_id)
    if row is None:
        raise RunNotFound(f"there is no run {run_id}; list them with ListRuns", run_id=run_id)
    if row["report"] is None:
        state = row["state"]
        advice = "resume it, or start another" if state in ("failed", "cancelled") else "wait until it has succeeded"
        what = f"the run is {state} and has no report; {advice}"
        if LEAVES[row["kind"]] is Leaves.CLIPS:
            what = f"a run of {row['kind']} has clips and no report; list them with ListPreviews"
        raise ReportNotReady(what, run_id=run_id, state=state)
    return read(row)
