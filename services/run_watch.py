"""What WatchRun follows: the whole run, sent again with each change of it."""

from __future__ import annotations

from control_plane.db.pool import Database
from control_plane.runs import store
from control_plane.runs.model import Run
from services.convert.runs import run_message
from services.rpc.watch import Frame
from tunesmith.v1 import run_pb2


class RunSource:
    """A run as a source of a watch. A place in it is the run as it was last shown."""

    def __init__(self, db: Database, run_id: str) -> None:
        self._db = db
        self._run_id = run_id
        self._run: Run | None = None

    async def finished(self) -> bool:
        """Whether the run has ended. Raises RunNotFound."""
        async with self._db.connection() as conn:
            self._run = await store.get(conn, self._run_id)
        return self._run.state.terminal

    async def read(self, after: Run | None) -> tuple[Run | None, Run | None]:
        """The run where it has changed: as `finished` read it, so that a state that ends the watch is always shown."""
        return self._run, None if self._run == after else self._run


def run_frame(frame: Frame[Run | None, Run]) -> run_pb2.WatchRunResponse:
    """The frame as clients see it."""
    if frame.rows is None:
        return run_pb2.WatchRunResponse(heartbeat=run_pb2.Heartbeat())
    return run_pb2.WatchRunResponse(run=run_message(frame.rows))
