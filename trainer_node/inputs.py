"""What a job needs before it can start: its data set with its clips or its corpus, the adapter and checkpoint that it
goes on from.

They come from the control plane as blobs, each fetched once and kept. A connection that breaks is the source's affair:
it goes on where it stopped.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Protocol

from trainer_node.blob_folder import BlobFolder
from trainer_node.data.export import read_export
from trainer_node.errors import BlobCorrupt, BlobNotFound, InputsUnavailable
from tunesmith.v1 import trainer_pb2

_AT_A_TIME = 4


class BlobSource(Protocol):
    """Where blobs come from."""

    def fetch(self, digest: str) -> AsyncIterator[bytes]:
        """The bytes of a blob. Survives outages. Raises BlobNotFound, InputsUnavailable when it gives up."""


async def fetch_inputs(job: trainer_pb2.Job, blobs: BlobFolder, source: BlobSource) -> None:
    """Bring every blob that `job` needs into `blobs`. Raises InputsUnavailable, DataInvalid, DiskFull."""
    missed = (
        f"the checkpoint at step {job.resume_from.step} is of no use: resume the run from an earlier checkpoint_step"
    )
    await _fetch(blobs, source, [file.digest for file in job.resume_from.files], missed)
    missed = "the adapter to start from is of no use: create a run that starts from another one, or from none"
    await _fetch(blobs, source, [file.digest for file in job.start_adapter.files], missed)
    missed = "upload the text with UploadBlob again, then resume the run or create a new one"
    await _fetch(blobs, source, [file.digest for file in job.spec.tiny_lm.corpus.corpus_files], missed)
    if job.dataset_digest:
        missed = "create a data set version of the same samples again, then resume the run or create a new one"
        await _fetch(blobs, source, [job.dataset_digest], missed)
        data = read_export(await asyncio.to_thread(blobs.existing(job.dataset_digest).read_bytes))
        missed = "import the clips of its data set again, then resume the run or create a new one"
        await _fetch(blobs, source, data.audio_digests(), missed)


async def _fetch(blobs: BlobFolder, source: BlobSource, digests: list[str], missed: str) -> None:
    """Fetch those of `digests` that are not here, a few at a time. The first failure ends it.

    missed: what to do where one is gone.
    """
    absent = await asyncio.to_thread(blobs.missing, digests)
    for digest in set(digests).difference(absent):
        blobs.used(digest)
    waiting = iter(absent)

    async def work() -> None:
        for digest in waiting:
            await _fetch_one(blobs, source, digest, missed)

    workers = [asyncio.create_task(work()) for _ in range(_AT_A_TIME)]
    try:
        await asyncio.gather(*workers)
    finally:
        for worker in workers:
            worker.cancel()
        await asyncio.gather(*workers, return_exceptions=True)


async def _fetch_one(blobs: BlobFolder, source: BlobSource, digest: str, missed: str) -> None:
    try:
        with blobs.receive(digest) as incoming:
            async for chunk in source.fetch(digest):
                await asyncio.to_thread(incoming.write, chunk)
            await asyncio.to_thread(incoming.commit)
    except BlobNotFound as error:
        raise InputsUnavailable(f"blob {digest} is gone from the control plane; {missed}", digest=digest) from error
    except BlobCorrupt as error:
        what = f"blob {digest} arrived damaged; check the blob store of the control plane"
        raise InputsUnavailable(f"{what}, then resume the run or create a new one", digest=digest) from error
