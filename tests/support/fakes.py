"""The ports of the control plane in memory. They pass the same contract tests as the real ones."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime

from control_plane.errors import BlobCorrupt, BlobNotFound, NodeRefused, NodeUnreachable, OffsetOutOfRange
from control_plane.ids import new_id
from control_plane.nodes.model import Node
from control_plane.ports import AudioFacts
from tunesmith.v1 import job_event_pb2, run_pb2, trainer_pb2

CHUNK = 1 << 20


class InMemoryBlobs:
    """The port `Blobs`. stored: bytes by digest."""

    def __init__(self) -> None:
        self.stored: dict[str, bytes] = {}

    async def missing(self, digests: Sequence[str]) -> list[str]:
        return [digest for digest in dict.fromkeys(digests) if digest not in self.stored]

    async def put(self, digest: str, chunks: AsyncIterator[bytes], size: int) -> None:
        if digest in self.stored:
            return
        data = b"".join([chunk async for chunk in chunks])
        if len(data) != size or hashlib.sha256(data).hexdigest() != digest:
            raise BlobCorrupt("the bytes do not have the digest; upload them again", digest=digest)
        self.stored[digest] = data

    async def put_bytes(self, data: bytes) -> str:
        digest = hashlib.sha256(data).hexdigest()
        self.stored[digest] = data
        return digest

    async def get_bytes(self, digest: str, limit: int) -> bytes:
        data = self._found(digest)
        if len(data) > limit:
            raise BlobCorrupt(f"the blob has {len(data)} bytes, more than {limit}", digest=digest)
        return data

    async def read(self, digest: str, offset: int = 0) -> AsyncIterator[bytes]:
        data = self._found(digest)
        if offset > len(data):
            raise OffsetOutOfRange(f"the blob has {len(data)} bytes", digest=digest)
        for start in range(offset, len(data), CHUNK):
            yield data[start : start + CHUNK]

    async def size(self, digest: str) -> int | None:
        return len(self.stored[digest]) if digest in self.stored else None

    def _found(self, digest: str) -> bytes:
        if digest not in self.stored:
            raise BlobNotFound(f"there is no blob {digest}; upload it with UploadBlob", digest=digest)
        return self.stored[digest]


def node_at(address: str, *, name: str = "node-1") -> Node:
    """A node as the registry knows it."""
    now = datetime.now(UTC)
    facts = {"kinds": ("supervised",), "slots": 1, "device": "", "version": "", "used_slots": 0, "online": True}
    return Node(node_id=new_id("nod"), name=name, address=address, last_seen_time=now, create_time=now, **facts)


class FakeInspector:
    """The port `AudioInspector`: every clip is 2.5 s of mono at 32 kHz, but those in `refused` (why, by digest) and
    those in `absent`, which count as not stored."""

    def __init__(self, refused: dict[str, str] | None = None) -> None:
        self.refused = refused or {}
        self.absent: set[str] = set()
        self.inspected: list[str] = []

    async def inspect(self, digests: Sequence[str]) -> list[AudioFacts | str]:
        self.inspected += digests
        return [self._look(digest) for digest in digests]

    def _look(self, digest: str) -> AudioFacts | str:
        if digest in self.absent:
            return "not uploaded; upload it with UploadBlob"
        return self.refused.get(digest, AudioFacts(duration_s=2.5, sample_rate_hz=32_000, channels=1))


class FakeTrainer:
    """The port `Trainer`: takes orders down, and answers as nodes do whose jobs tell what the test lets them.

    logs: what jobs have told, by job; one that a test puts there is known to every node, one that was started to its
    node. refusals: reason by which a node (by name) refuses new jobs. silent: names of nodes that do not answer.
    """

    def __init__(self, *, heartbeat_s: float = 5.0) -> None:
        self.started: list[trainer_pb2.Job] = []
        self.stopped: list[str] = []
        self.refusals: dict[str, str] = {}
        self.silent: set[str] = set()
        self.logs: dict[str, list[job_event_pb2.JobEvent]] = {}
        self.blobs: dict[str, bytes] = {}
        self.grown = asyncio.Condition()
        self._heartbeat_s = heartbeat_s
        self._places: dict[str, str] = {}  # node by job

    async def start_job(self, node: Node, job: trainer_pb2.Job) -> None:
        self._answer(node)
        if self.log_of(node, job.job_id) is not None:
            return
        others = [one for one in self.started if one.run_id == job.run_id and self._places[one.job_id] == node.node_id]
        if any(other.attempt >= job.attempt for other in others):
            raise NodeRefused("not the current attempt", given_reason="LEASE_LOST")
        for other in others:
            await self._cancel(self.logs[other.job_id])
        if node.name in self.refusals:
            raise NodeRefused("no", given_reason=self.refusals[node.name])
        self.started.append(job)
        self.logs[job.job_id] = []
        self._places[job.job_id] = node.node_id

    async def stop_job(self, node: Node, job_id: str, grace_s: float) -> None:
        self._answer(node)
        log = self._known(node, job_id)
        self.stopped.append(job_id)
        await self._cancel(log)

    async def list_jobs(self, node: Node) -> list[trainer_pb2.JobStatus]:
        self._answer(node)
        jobs = {job.job_id: job for job in self.started}
        return [
            trainer_pb2.JobStatus(
                job_id=job_id,
                run_id=jobs[job_id].run_id if job_id in jobs else "",
                attempt=jobs[job_id].attempt if job_id in jobs else 0,
                state=trainer_pb2.JOB_STATE_ENDED if _ended(log) else trainer_pb2.JOB_STATE_RUNNING,
                last_seq=len(log),
            )
            for job_id, log in sorted(self.logs.items())
            if self.log_of(node, job_id) is not None
        ]

    async def stream_events(
        self, node: Node, job_id: str, after_seq: int
    ) -> AsyncIterator[trainer_pb2.StreamJobEventsResponse]:
        self._answer(node)
        log = self._known(node, job_id)
        if after_seq > len(log):
            raise NodeRefused(f"the job has {len(log)} events", given_reason="OFFSET_OUT_OF_RANGE")
        while True:
            while after_seq < len(log):
                after_seq += 1
                events = trainer_pb2.JobEvents(events=[log[after_seq - 1]])
                yield trainer_pb2.StreamJobEventsResponse(events=events)
            if _ended(log):
                return
            if not await self._news(log, after_seq):
                yield trainer_pb2.StreamJobEventsResponse(heartbeat=run_pb2.Heartbeat())

    async def fetch_blob(self, node: Node, digest: str) -> AsyncIterator[bytes]:
        self._answer(node)
        if digest not in self.blobs:
            raise NodeRefused("no such blob", given_reason="BLOB_NOT_FOUND")
        for start in range(0, len(self.blobs[digest]), CHUNK):
            yield self.blobs[digest][start : start + CHUNK]

    async def tell(self, log: list[job_event_pb2.JobEvent], *events: job_event_pb2.JobEvent) -> None:
        """Let a job tell more, and whoever follows it hear that."""
        async with self.grown:
            log += events
            self.grown.notify_all()

    def log_of(self, node: Node, job_id: str) -> list[job_event_pb2.JobEvent] | None:
        """What a job has told, None where the node does not know it."""
        here = self._places.get(job_id, node.node_id) == node.node_id
        return self.logs.get(job_id) if here else None

    async def _cancel(self, log: list[job_event_pb2.JobEvent]) -> None:
        if not _ended(log):
            finished = job_event_pb2.JobFinished(cancelled=job_event_pb2.JobCancelled())
            await self.tell(log, job_event_pb2.JobEvent(seq=len(log) + 1, finished=finished))

    async def _news(self, log: list[job_event_pb2.JobEvent], after_seq: int) -> bool:
        """Whether there is something behind `after_seq` before the next heartbeat is due."""
        try:
            async with asyncio.timeout(self._heartbeat_s), self.grown:
                await self.grown.wait_for(lambda: len(log) > after_seq)
        except TimeoutError:
            return False
        return True

    def _known(self, node: Node, job_id: str) -> list[job_event_pb2.JobEvent]:
        log = self.log_of(node, job_id)
        if log is None:
            raise NodeRefused("no such job", given_reason="JOB_NOT_FOUND")
        return log

    def _answer(self, node: Node) -> None:
        if node.name in self.silent:
            raise NodeUnreachable(f"node {node.name} does not answer", node_id=node.node_id)


def _ended(log: Sequence[job_event_pb2.JobEvent]) -> bool:
    return bool(log) and log[-1].HasField("finished")
