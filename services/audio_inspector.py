"""The port `AudioInspector`: clips of unknown origin are decoded in a child process, which may die of them.

One child serves one call and gets one file at a time. A child that dies or does not answer in time has met a file that
kills decoders: that file is refused and a fresh child takes the rest. The control plane itself never opens audio.
Bytes are named by their digest, so what was found out about a digest stays true and is remembered.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import tempfile
from collections import OrderedDict
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Protocol

import structlog

from control_plane.ports import AudioFacts, Blobs

log = structlog.get_logger()

MAX_AUDIO_BYTES = 2 << 30  # as trainer_node.data.audio.MAX_FILE_BYTES, which lives beside the decoders
REMEMBERED = 20_000
NOT_UPLOADED = "not uploaded; upload it with UploadBlob"
DECODER_DIED = "the decoder crashed or took too long on this file; export it again, as wav or flac"
PROGRAM = (sys.executable, "-P", "-m", "trainer_node.data.inspect")  # -P: not from the working directory
_ENVIRONMENT = ("PATH", "HOME", "LANG", "PYTHONPATH", "VIRTUAL_ENV")


class AudioBlobs(Blobs, Protocol):
    """Blobs, some of which may lie in this machine's file system."""

    def local_path(self, digest: str) -> Path | None:
        """The file that holds a blob, or None where it is not stored or not stored as a file of this machine."""
        ...


class SubprocessAudioInspector:
    """Decodes each clip in a child that runs `program`, started by exec; at most `children` at once."""

    def __init__(
        self,
        blobs: AudioBlobs,
        *,
        file_timeout_s: float = 60.0,
        children: int = 2,
        program: Sequence[str] = PROGRAM,
    ) -> None:
        self._blobs = blobs
        self._program = program
        self._file_timeout_s = file_timeout_s
        self._places = asyncio.Semaphore(children)
        self._known: OrderedDict[str, AudioFacts | str] = OrderedDict()

    async def inspect(self, digests: Sequence[str]) -> list[AudioFacts | str]:
        """For each digest its facts, or why it is refused and what to do; order kept."""
        unknown = [digest for digest in dict.fromkeys(digests) if digest not in self._known]
        answers = {digest: self._known[digest] for digest in digests if digest in self._known}
        if unknown:
            async with self._places, _Child(self._program) as child:
                for digest in unknown:
                    answers[digest] = await self._look(child, digest)
        return [answers[digest] for digest in digests]

    async def _look(self, child: _Child, digest: str) -> AudioFacts | str:
        size = await self._blobs.size(digest)
        if size is None:
            return NOT_UPLOADED
        if size > MAX_AUDIO_BYTES:
            return f"the file has {size:,} bytes, above {MAX_AUDIO_BYTES:,}; cut it into shorter clips"
        async with self._file(digest) as path:
            answer = await child.ask(path, timeout_s=self._file_timeout_s)
        if answer is None:
            log.warning("audio_decoder_died", digest=digest, size_bytes=size)
            return DECODER_DIED
        facts = str(answer["refused"]) if "refused" in answer else AudioFacts(**answer)
        self._known[digest] = facts
        if len(self._known) > REMEMBERED:
            self._known.popitem(last=False)
        return facts

    @asynccontextmanager
    async def _file(self, digest: str) -> AsyncIterator[Path]:
        """The blob as a file: where it lies, or a copy for as long as it is looked at."""
        local = self._blobs.local_path(digest)
        if local is not None:
            yield local
            return
        with tempfile.NamedTemporaryFile(prefix="tunesmith-audio-") as file:
            async for chunk in self._blobs.read(digest):
                await asyncio.to_thread(file.write, chunk)
            file.flush()
            yield Path(file.name)


class _Child:
    """A process that answers one path at a time, started when first asked and again after it died."""

    def __init__(self, program: Sequence[str]) -> None:
        self._program = program
        self._process: asyncio.subprocess.Process | None = None

    async def __aenter__(self) -> _Child:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stop()

    async def ask(self, path: Path, *, timeout_s: float) -> dict[str, Any] | None:
        """The child's answer, or None where it died or took too long; then the next question has a fresh child."""
        process = self._process or await self._start()
        assert process.stdin and process.stdout, "both are pipes"
        try:
            async with asyncio.timeout(timeout_s):
                process.stdin.write(json.dumps({"path": str(path)}).encode() + b"\n")
                await process.stdin.drain()
                line = await process.stdout.readline()
        except (TimeoutError, ConnectionError):
            line = b""
        if line.endswith(b"\n"):
            answer: dict[str, Any] = json.loads(line)
            return answer
        await self._stop()
        return None

    async def _start(self) -> asyncio.subprocess.Process:
        environment = {name: os.environ[name] for name in _ENVIRONMENT if name in os.environ}
        self._process = await asyncio.create_subprocess_exec(
            *self._program,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
            env={**environment, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},
            start_new_session=True,
        )
        return self._process

    async def _stop(self) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        if process.returncode is None:
            process.kill()
        await asyncio.shield(process.wait())
