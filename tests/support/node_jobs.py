"""Jobs of a node with the fake training process, and what their streams say."""

from __future__ import annotations

import asyncio
import hashlib
import json
import sys
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from pathlib import Path

from trainer_node.config import TrainerNodeConfig
from trainer_node.errors import BlobNotFound
from trainer_node.jobs import Jobs
from tunesmith.v1 import job_event_pb2, job_spec_pb2, trainer_pb2

FAKE_CHILD = (sys.executable, "-m", "tests.support.fake_child")
_ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"


def ulid(text: str) -> str:
    """26 characters that look like a ULID, the same for the same text."""
    return "".join(_ALPHABET[byte % 32] for byte in hashlib.sha256(text.encode()).digest()[:26])


class MemorySource:
    """Blobs of an imagined control plane."""

    def __init__(self) -> None:
        self.blobs: dict[str, bytes] = {}
        self.open = asyncio.Event()
        self.open.set()
        self.fetched: list[str] = []

    def add(self, data: bytes) -> str:
        digest = hashlib.sha256(data).hexdigest()
        self.blobs[digest] = data
        return digest

    def add_dataset(self, clips: dict[str, bytes]) -> str:
        """A frozen data set of prompts and clips; returns the digest of its export."""
        rows = [
            {"audio_digest": self.add(data), "duration_s": 1.0, "prompt": prompt, "rating": 4.0, "tags": {}}
            for prompt, data in clips.items()
        ]
        return self._add_rows(rows)

    def add_comparisons(self, comparisons: dict[str, list[bytes]]) -> str:
        """A frozen data set of prompts and their clips, best first; returns the digest of its export."""
        rows = [
            {
                "clips": [
                    {"audio_digest": self.add(data), "duration_s": 1.0, "rank": rank}
                    for rank, data in enumerate(clips, start=1)
                ],
                "prompt": prompt,
            }
            for prompt, clips in comparisons.items()
        ]
        return self._add_rows(rows)

    def _add_rows(self, rows: Sequence[Mapping[str, object]]) -> str:
        return self.add(
            b"".join(json.dumps(row, sort_keys=True, separators=(",", ":")).encode() + b"\n" for row in rows)
        )

    async def fetch(self, digest: str) -> AsyncIterator[bytes]:
        await self.open.wait()
        self.fetched.append(digest)
        if digest not in self.blobs:
            raise BlobNotFound(f"no {digest}")
        data = self.blobs[digest]
        for part in (data[: len(data) // 2], data[len(data) // 2 :]):
            if part:
                yield part


def make_job(engine: str, *, run: str = "run", attempt: int = 1, steps: int = 20, **fields: object) -> trainer_pb2.Job:
    """A job that the fake process trains with `engine`."""
    spec = job_spec_pb2.JobSpec()
    spec.supervised.adapter.base_model = engine
    spec.supervised.training.epochs = steps
    spec.supervised.training.batch_size = 8
    job_id, run_id = f"job_{ulid(f'{engine}/{run}/{attempt}')}", f"run_{ulid(run)}"
    return trainer_pb2.Job(job_id=job_id, run_id=run_id, attempt=attempt, spec=spec, **fields)


def node_config(data_dir: Path, **changes: object) -> TrainerNodeConfig:
    """A node below `data_dir`, with short silences."""
    settings: dict[str, object] = {
        "listen": "127.0.0.1:0", "data_dir": data_dir, "models_dir": data_dir / "models", "threads": 1,
        "min_free_bytes": 0, "heartbeat_s": 0.2,
    }  # fmt: skip
    return TrainerNodeConfig(**(settings | changes))  # type: ignore[arg-type]  # checked by the class itself


def fake_jobs(config: TrainerNodeConfig, source: MemorySource | None = None) -> Jobs:
    """The jobs of a node whose trainings are faked."""
    return Jobs(config, source or MemorySource(), child_command=FAKE_CHILD)


async def events_of(
    jobs: Jobs,
    job_id: str,
    after_seq: int = 0,
    *,
    until: Callable[[job_event_pb2.JobEvent], bool] | None = None,
    within_s: float = 20,
) -> list[job_event_pb2.JobEvent]:
    """The events of a job up to its end, or up to the first for which `until` holds."""
    found: list[job_event_pb2.JobEvent] = []
    async with asyncio.timeout(within_s):
        async for batch in jobs.events(job_id, after_seq):
            for event in batch:
                found.append(event)
                if until is not None and until(event):
                    return found
    return found


def lines(events: list[job_event_pb2.JobEvent], stream: int = job_event_pb2.LOG_STREAM_STDOUT) -> list[str]:
    """The log lines of one stream."""
    return [line for event in events if event.logs.stream == stream for line in event.logs.lines]


def gapless(events: list[job_event_pb2.JobEvent], after_seq: int = 0) -> bool:
    """Whether the numbers follow each other."""
    return [event.seq for event in events] == list(range(after_seq + 1, after_seq + 1 + len(events)))


def end_of(events: list[job_event_pb2.JobEvent]) -> job_event_pb2.JobFinished:
    """The end of a job; it is the last event and the only end."""
    assert events[-1].HasField("finished")
    assert not any(event.HasField("finished") for event in events[:-1])
    return events[-1].finished


def has_line(text: str) -> Callable[[job_event_pb2.JobEvent], bool]:
    """Whether an event holds this log line."""
    return lambda event: text in event.logs.lines


def has_step(step: int) -> Callable[[job_event_pb2.JobEvent], bool]:
    """Whether an event holds metrics of a step or a later one."""
    return lambda event: event.HasField("metrics") and event.metrics.steps[-1] >= step


async def settled(jobs: Jobs) -> None:
    """Wait until every process that has told its end is gone, too."""
    await eventually(lambda: all(status.state == trainer_pb2.JOB_STATE_ENDED for status in jobs.statuses()))


async def eventually(holds: Callable[[], bool], *, within_s: float = 10) -> None:
    """Wait for something that another process or a loop brings about without telling."""
    async with asyncio.timeout(within_s):
        while not holds():  # noqa: ASYNC110 - there is no event to wait for, see above
            await asyncio.sleep(0.01)


async def gone(pid: int, *, within_s: float = 5) -> bool:
    """Whether a process is gone (a zombie counts as gone) within some seconds."""
    deadline = time.monotonic() + within_s
    while time.monotonic() < deadline:
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except (FileNotFoundError, ProcessLookupError):
            return True
        if state == "Z":
            return True
        await asyncio.sleep(0.02)
    return False
