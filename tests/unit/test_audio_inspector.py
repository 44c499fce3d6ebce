"""Clips of unknown origin are decoded in a child process, and no clip harms more than itself."""

from __future__ import annotations

import asyncio
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import psutil
import pytest
import soundfile

from control_plane.ports import AudioFacts
from services.audio_inspector import DECODER_DIED, NOT_UPLOADED, SubprocessAudioInspector
from services.blob_store import BlobStore
from tests.unit.sounds import tone, write

# answers as the real program does, except to two contents: what a decoder with a fault would do
FRAGILE = """
import os, sys, time
from pathlib import Path
from trainer_node.data import inspect
inspect.limit_self()
answer = inspect.answer
def fragile(path):
    if path.read_bytes() == b"crash": os.abort()
    if path.read_bytes() == b"hang": time.sleep(60)
    return answer(path)
inspect.answer = fragile
inspect.main(sys.stdin, sys.stdout)
"""


@pytest.fixture(params=["paths", "bytes"])
def blobs(request, tmp_path):
    """Blobs that lie in this machine's file system, or that have to be fetched."""
    return BlobStore(
        str(tmp_path / "blobs") if request.param == "paths" else "memory:///", staging_dir=tmp_path / "new"
    )


@pytest.fixture
def clip(tmp_path):
    return write(tmp_path / "clip", "flac", tone(channels=2)).read_bytes()


FACTS = AudioFacts(duration_s=1.0, sample_rate_hz=48_000, channels=2)


async def test_each_digest_gets_its_answer_in_the_order_asked(blobs, clip):
    good, cut = await blobs.put_bytes(clip), await blobs.put_bytes(clip[:2000])

    answers = await SubprocessAudioInspector(blobs).inspect([cut, good, "0" * 64, good])

    assert "ends early" in answers[0]
    assert answers[1:] == [FACTS, NOT_UPLOADED, FACTS]


async def test_a_clip_that_crashes_or_stalls_the_decoder_is_refused_and_the_rest_is_answered(blobs, clip):
    program = (sys.executable, "-c", FRAGILE)
    digests = [await blobs.put_bytes(data) for data in (b"crash", clip, b"hang", clip + b"\0", b"crash")]

    answers = await SubprocessAudioInspector(blobs, program=program, file_timeout_s=5).inspect(digests)

    assert answers == [DECODER_DIED, FACTS, DECODER_DIED, FACTS, DECODER_DIED]


async def test_what_was_found_out_about_a_digest_is_remembered(tmp_path, clip):
    blobs = BlobStore(str(tmp_path))
    inspector = SubprocessAudioInspector(blobs)
    good, cut = await blobs.put_bytes(clip), await blobs.put_bytes(clip[:2000])
    first = await inspector.inspect([good, cut])

    for digest in (good, cut):
        blobs.folder.discard(digest)

    assert await inspector.inspect([good, cut]) == first


async def test_a_call_that_is_given_up_leaves_no_child_behind(blobs):
    inspector = SubprocessAudioInspector(blobs, program=(sys.executable, "-c", FRAGILE))
    hang = await blobs.put_bytes(b"hang")
    others = _children()  # of the session, such as its Postgres
    call = asyncio.create_task(inspector.inspect([hang]))
    while not (children := _children() - others):  # noqa: ASYNC110 - another process gives no event
        await asyncio.sleep(0.02)

    call.cancel()
    await asyncio.gather(call, return_exceptions=True)

    assert not children & _children()


def _children() -> set[str]:
    return set(Path(f"/proc/self/task/{os.getpid()}/children").read_text().split())


def test_a_decompression_bomb_costs_the_child_little_memory_and_time(tmp_path):
    bomb = tmp_path / "bomb.flac"
    with soundfile.SoundFile(bomb, "w", 192_000, 2, format="FLAC") as file:
        for _ in range(70):
            file.write(np.zeros((192_000, 2), np.float32))
    data = bytearray(bomb.read_bytes())
    data[22:26] = (100_000_000).to_bytes(4, "big")  # 521 s at 192 kHz, 763 MiB of samples: within what a header may say
    bomb.write_bytes(data)
    child = subprocess.Popen(
        [sys.executable, "-m", "trainer_node.data.inspect"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )

    assert child.stdin is not None and child.stdout is not None
    with child, child.stdin as questions, child.stdout as answers:
        questions.write(json.dumps({"path": str(bomb)}) + "\n")
        questions.flush()
        answer = json.loads(answers.readline())
        used = psutil.Process(child.pid).cpu_times().user
        # not ru_maxrss, which begins with what the parent had at the fork
        status = Path(f"/proc/{child.pid}/status").read_text()

    peak_kib = int(re.search(r"VmHWM:\s+(\d+) kB", status)[1])
    assert "refused" in answer
    assert peak_kib < 256 * 1024
    assert used < 5


def test_the_child_limits_its_own_memory_files_and_processor_time():
    program = (
        "import resource as r; from trainer_node.data import inspect as i; i.limit_self(); i.answer(i.Path('/absent'));"
        "print(*(r.getrlimit(l)[0] for l in (r.RLIMIT_AS, r.RLIMIT_FSIZE, r.RLIMIT_CORE, r.RLIMIT_CPU)))"
    )

    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)

    memory, written, core, cpu_s = map(int, done.stdout.split())
    assert (memory, written, core) == (1 << 30, 1 << 20, 0)
    assert 30 <= cpu_s <= 35
