"""Rated clips, frozen selections of them, and the bytes that a selection exports to.

Samples are never changed or deleted, so a version that names its samples is the same for ever, and so is its export.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime


@dataclass(frozen=True, kw_only=True)
class Dataset:
    """A row of `datasets`, with the number of its samples as they are now."""

    dataset_id: str
    name: str
    description: str
    sample_count: int
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
class DatasetVersion:
    """A row of `dataset_versions`. digest, size_bytes: of the JSONL blob; min_rating: None lets every rating in."""

    dataset_version_id: str
    dataset_id: str
    number: int
    min_rating: float | None
    sample_count: int
    digest: str
    size_bytes: int
    create_time: datetime


def export(samples: Iterable[Sample]) -> bytes:
    """The JSONL of `samples`, in the order given: keys sorted, no spaces, UTF-8, a line end after each.

    Line n of a version's export is the sample with ordinal n.
    """
    return b"".join(_line(sample) for sample in samples)


def _line(sample: Sample) -> bytes:
    row = {
        "audio_digest": sample.audio_digest,
        "duration_s": float(sample.duration_s),
        "prompt": sample.prompt,
        "rating": float(sample.rating),
        "tags": sample.tags,
    }
    return json.dumps(row, ensure_ascii=False, sort_keys=True, separators=(",", ":"), allow_nan=False).encode() + b"\n"
