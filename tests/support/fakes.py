"""The ports of the control plane in memory. They pass the same contract tests as the real ones."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator, Sequence

from control_plane.errors import BlobCorrupt, BlobNotFound, NodeRefused, NodeUnreachable, OffsetOutOfRange
from control_plane.nodes.model import Node
from control_plane.ports import AudioFacts
from tunesmith.v1 import trainer_pb2

CHUNK = 1 << 20


class InMemoryBlobs:
    """The port `Blobs`. stored: bytes by digest."""

    def __init__(self) -> None:
        self.stored: dict[str, bytes] = {}

    async def missing(self, digests: Sequence[str]) -> list[str]:
        return [digest for digest in digests if digest not in self.stored]

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


class FakeInspector:
    """The port `AudioInspector`: finds every clip good, but those in `refused` (why, by digest)."""

    def __init__(self, refused: dict[str, str] | None = None) -> None:
        self.refused = refused or {}
        self.inspected: list[str] = []

    async def inspect(self, digests: Sequence[str]) -> list[AudioFacts | str]:
        self.inspected += digests
        good = AudioFacts(duration_s=2.5, sample_rate_hz=32_000, channels=1)
        return [self.refused.get(digest, good) for digest in digests]


class FakeTrainer:
    """The port `Trainer`: takes orders down, and answers as the test sets it.

    refusals: reason by which a node (by name) refuses to start jobs. silent: names of nodes that do not answer.
    unknown: ids of jobs that no node knows. events: what stream_events gives, by job.
    """

    def __init__(self) -> None:
        self.started: list[trainer_pb2.Job] = []
        self.stopped: list[str] = []
        self.refusals: dict[str, str] = {}
        self.silent: set[str] = set()
        self.unknown: set[str] = set()
        self.reported: list[trainer_pb2.JobStatus] = []
        self.events: dict[str, list[trainer_pb2.StreamJobEventsResponse]] = {}
        self.blobs: dict[str, bytes] = {}

    async def start_job(self, node: Node, job: trainer_pb2.Job) -> None:
        self._answer(node)
        if node.name in self.refusals:
            raise NodeRefused("no", given_reason=self.refusals[node.name])
        if job.job_id not in {known.job_id for known in self.started}:
            self.started.append(job)

    async def stop_job(self, node: Node, job_id: str, grace_s: float) -> None:
        self._answer(node)
        if job_id in self.unknown:
            raise NodeRefused("no such job", given_reason="JOB_NOT_FOUND")
        self.stopped.append(job_id)

    async def list_jobs(self, node: Node) -> list[trainer_pb2.JobStatus]:
        self._answer(node)
        return self.reported

    async def stream_events(
        self, node: Node, job_id: str, after_seq: int
    ) -> AsyncIterator[trainer_pb2.StreamJobEventsResponse]:
        self._answer(node)
        for response in self.events.get(job_id, []):
            yield response

    async def fetch_blob(self, node: Node, digest: str) -> AsyncIterator[bytes]:
        self._answer(node)
        if digest not in self.blobs:
            raise NodeRefused("no such blob", given_reason="BLOB_NOT_FOUND")
        yield self.blobs[digest]

    def _answer(self, node: Node) -> None:
        if node.name in self.silent:
            raise NodeUnreachable(f"node {node.name} does not answer", node_id=node.node_id)
