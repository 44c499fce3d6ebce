"""Rated and compared clips, what is frozen of them, and the bytes that a frozen version exports to.

Samples and comparisons are never changed or deleted, so what follows from them once is the same for ever, and so is its
export.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from tunesmith.preferences import Ranked
from tunesmith.v1 import dataset_pb2


class Form(StrEnum):
    """What a version holds: lines of its export."""

    RATED_CLIPS = "rated clips"
    PAIRS = "pairs"
    RANKED_LISTS = "ranked lists"


def form_of(derivation: dataset_pb2.Derivation | None) -> Form:
    """What is derived so; rated clips are not derived."""
    if derivation is None:
        return Form.RATED_CLIPS
    return Form.PAIRS if derivation.HasField("pairs") else Form.RANKED_LISTS


@dataclass(frozen=True, kw_only=True)
class Dataset:
    """A row of `datasets`, with the numbers of its samples and comparisons as they are now."""

    dataset_id: str
    name: str
    description: str
    sample_count: int
    comparison_count: int
    create_time: datetime


@dataclass(frozen=True, kw_only=True)
class NewSample:
    """A sample that is to be added; its audio is not measured yet."""

    prompt: str
    audio_digest: str
    rating: float
    tags: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Sample:
    """A row of `samples`."""

    sample_id: str
    dataset_id: str
    prompt: str
    audio_digest: str
    rating: float
    tags: dict[str, str]
    duration_s: float
    sample_rate_hz: int
    channels: int
    create_time: datetime


@dataclass(frozen=True, kw_only=True)
class NewComparison:
    """A comparison that is to be added. clips: (audio digest, rank) as they were given; ranks may have gaps."""

    prompt: str
    clips: tuple[tuple[str, int], ...]

    @property
    def best_first(self) -> list[tuple[str, int]]:
        """The clips by rank, the tied ones as they were given; ranks from 1 without a gap."""
        place = {rank: number for number, rank in enumerate(sorted({rank for _, rank in self.clips}), start=1)}
        return [(clip, place[rank]) for clip, rank in sorted(self.clips, key=lambda clip: clip[1])]

    @property
    def digest(self) -> str:
        """SHA-256 of what it says, so that the order of tied clips and gaps between ranks make no difference."""
        says = [self.prompt, sorted((rank, clip) for clip, rank in self.best_first)]
        return hashlib.sha256(json.dumps(says).encode()).hexdigest()


@dataclass(frozen=True, kw_only=True)
class RankedClip:
    """A clip of a comparison. rank: from 1, the best; equal ranks are tied."""

    audio_digest: str
    rank: int
    duration_s: float


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """A row of `comparisons` with its clips, best first."""

    comparison_id: str
    dataset_id: str
    prompt: str
    clips: tuple[RankedClip, ...]
    create_time: datetime


@dataclass(frozen=True, kw_only=True)
class DatasetVersion:
    """A row of `dataset_versions`. digest, size_bytes: of the JSONL blob; min_rating: None lets every rating in.

    derivation: how its pairs or lists followed; None for rated clips. One that is only shown has no id, no number and
    no create_time.
    """

    dataset_version_id: str
    dataset_id: str
    number: int
    min_rating: float | None
    sample_count: int
    digest: str
    size_bytes: int
    create_time: datetime | None
    derivation: dataset_pb2.Derivation | None

    @property
    def form(self) -> Form:
        """What it holds."""
        return form_of(self.derivation)


def export(samples: Iterable[Sample]) -> bytes:
    """The JSONL of `samples`, in the order given: keys sorted, no spaces, UTF-8, a line end after each.

    Line n of a version's export is the sample with ordinal n.
    """
    return b"".join(
        _line(
            {
                "audio_digest": sample.audio_digest,
                "duration_s": float(sample.duration_s),
                "prompt": sample.prompt,
                "rating": float(sample.rating),
                "tags": sample.tags,
            }
        )
        for sample in samples
    )


def export_ranked(lists: Iterable[Ranked], durations_s: Mapping[str, float]) -> bytes:
    """The JSONL of pairs or lists, in the same style, a line each. durations_s: of every clip, by its digest."""
    return b"".join(
        _line(
            {
                "clips": [
                    {"audio_digest": clip, "duration_s": float(durations_s[clip]), "rank": rank}
                    for clip, rank in ranked.clips
                ],
                "prompt": ranked.prompt,
            }
        )
        for ranked in lists
    )


def _line(row: Mapping[str, object]) -> bytes:
    return json.dumps(row, ensure_ascii=False, sort_keys=True, separators=(",", ":"), allow_nan=False).encode() + b"\n"
