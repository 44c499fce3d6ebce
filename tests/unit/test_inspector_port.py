"""The port `AudioInspector`: what the registry relies on, of the real decoder and of the fake that stands for it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from control_plane.ports import AudioFacts, AudioInspector
from services.audio_inspector import SubprocessAudioInspector
from services.blob_store import BlobStore
from tests.support.fakes import FakeInspector
from tests.support.registry import digest_of
from tests.unit.sounds import tone, write

ABSENT = "0" * 64
GOOD = AudioFacts(duration_s=2.5, sample_rate_hz=32_000, channels=1)


@dataclass
class Clips:
    """An inspector, a clip of GOOD, and one that is cut short. upload: stores what was `late` until then."""

    inspector: AudioInspector
    good: str
    cut: str
    late: str
    upload: Callable[[], Awaitable[object]]


async def real_clips(folder: Path) -> Clips:
    blobs = BlobStore(str(folder / "blobs"))
    whole = write(folder / "clip", "wav", tone(duration_s=2.5, rate_hz=32_000), rate_hz=32_000).read_bytes()
    late = write(folder / "late", "wav", tone(duration_s=2.5, rate_hz=32_000, hz=220), rate_hz=32_000).read_bytes()
    good, cut = await blobs.put_bytes(whole), await blobs.put_bytes(whole[:2000])
    elsewhere = await BlobStore(str(folder / "elsewhere")).put_bytes(late)
    return Clips(SubprocessAudioInspector(blobs), good, cut, elsewhere, lambda: blobs.put_bytes(late))


def fake_clips() -> Clips:
    good, cut, late = map(digest_of, ("good", "cut", "late"))
    inspector = FakeInspector({cut: "the file ends early; export it again"})
    inspector.absent = {ABSENT, late}

    async def upload() -> None:
        inspector.absent.remove(late)

    return Clips(inspector, good, cut, late, upload)


@pytest.fixture(params=["real", "fake"])
async def clips(request: pytest.FixtureRequest, tmp_path: Path) -> Clips:
    return await real_clips(tmp_path) if request.param == "real" else fake_clips()


async def test_each_digest_gets_its_facts_or_its_refusal_in_the_order_asked(clips: Clips):
    answers = await clips.inspector.inspect([clips.cut, clips.good, ABSENT, clips.good])

    assert isinstance(answers[0], str) and "ends early" in answers[0]
    assert answers[1:] == [GOOD, "not uploaded; upload it with UploadBlob", GOOD]


async def test_the_same_bytes_get_the_same_answer_again(clips: Clips):
    asked = [clips.good, clips.cut]

    assert await clips.inspector.inspect(asked) == await clips.inspector.inspect(asked)


async def test_who_asks_for_nothing_is_told_nothing(clips: Clips):
    assert await clips.inspector.inspect([]) == []


async def test_what_was_not_uploaded_is_looked_at_once_it_is(clips: Clips):
    before = await clips.inspector.inspect([clips.late])
    await clips.upload()

    assert before == ["not uploaded; upload it with UploadBlob"]
    assert await clips.inspector.inspect([clips.late]) == [GOOD]


async def test_calls_at_the_same_time_get_answers_of_their_own(clips: Clips):
    asked = [[clips.good], [clips.cut, clips.good], [ABSENT], [clips.good, clips.cut]]

    answers = await asyncio.gather(*(clips.inspector.inspect(digests) for digests in asked))

    kinds = [[type(answer) for answer in given] for given in answers]
    assert kinds == [[AudioFacts], [str, AudioFacts], [str], [AudioFacts, str]]
