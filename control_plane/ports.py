"""What the control plane needs from outside, as protocols: bytes by digest, ears, and trainer nodes.

The edge implements them; tests implement them in memory, under the same contract tests.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from control_plane.nodes.model import Node
from tunesmith.v1 import trainer_pb2


@dataclass(frozen=True, kw_only=True)
class AudioFacts:
    """What was measured on a clip."""

    duration_s: float
    sample_rate_hz: int
    channels: int


class Blobs(Protocol):
    """Bytes named by their SHA-256 (64 hexadecimal digits). What is stored is never changed."""

    async def missing(self, digests: Sequence[str]) -> list[str]:
        """Those of `digests` that are not stored, in the order given."""
        ...

    async def put(self, digest: str, chunks: AsyncIterator[bytes], size: int) -> None:
        """Store `size` bytes, durable on return; what is stored is left as it is. Raises BlobCorrupt, DiskFull."""
        ...

    async def put_bytes(self, data: bytes) -> str:
        """Store `data`, durable on return, and return its digest."""
        ...

    async def get_bytes(self, digest: str, limit: int) -> bytes:
        """A whole blob. Raises BlobNotFound, and BlobCorrupt where it is longer than `limit` bytes."""
        ...

    def read(self, digest: str, offset: int = 0) -> AsyncIterator[bytes]:
        """The bytes from `offset` on, in chunks of at most 1 MiB. Raises BlobNotFound, OffsetOutOfRange."""
        ...

    async def size(self, digest: str) -> int | None:
        """Length in bytes, or None where it is not stored."""
        ...


class AudioInspector(Protocol):
    """Decodes stored audio and tells whether it can be trained on."""

    async def inspect(self, digests: Sequence[str]) -> list[AudioFacts | str]:
        """For each digest its facts, or why it is refused and what to do; order kept.

        A blob that is not stored is refused too: "not uploaded; upload it with UploadBlob".
        """
        ...


class Trainer(Protocol):
    """The trainer nodes. Every call raises NodeUnreachable where the node does not answer in time, and NodeRefused
    with the node's reason where it answers with an error."""

    async def start_job(self, node: Node, job: trainer_pb2.Job) -> None:
        """Start a job; starting a known one again changes nothing."""
        ...

    async def stop_job(self, node: Node, job_id: str, grace_s: float) -> None:
        """Ask a job to write a checkpoint and stop; killed after `grace_s` seconds."""
        ...

    async def list_jobs(self, node: Node) -> list[trainer_pb2.JobStatus]:
        """The jobs that the node has, ended ones that it has not forgotten included."""
        ...

    def stream_events(
        self, node: Node, job_id: str, after_seq: int
    ) -> AsyncIterator[trainer_pb2.StreamJobEventsResponse]:
        """The events after `after_seq`, then each as it comes, and heartbeats; ends after JobFinished."""
        ...

    def fetch_blob(self, node: Node, digest: str) -> AsyncIterator[bytes]:
        """A blob of the node, in chunks."""
        ...
