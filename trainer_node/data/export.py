"""The JSONL export of a dataset version: rated clips, or comparisons of clips, pairs and ranked lists alike.

An export was written by the control plane and is named by its digest, so the first deviation ends the reading.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from google.protobuf.message import Message

from trainer_node.errors import DataInvalid
from trainer_node.training import TrainingClip, TrainingComparison, TrainingSample
from tunesmith import spec
from tunesmith.v1 import dataset_pb2

_SAMPLE_KEYS = {"audio_digest", "duration_s", "prompt", "rating", "tags"}
_COMPARISON_KEYS = {"clips", "prompt"}
_CLIP_KEYS = {"audio_digest", "duration_s", "rank"}


@dataclass(frozen=True)
class FrozenSample:
    """A line of rated clips."""

    prompt: str
    audio_digest: str
    rating: float
    tags: Mapping[str, str]
    duration_s: float


@dataclass(frozen=True)
class FrozenClip:
    """A clip of a comparison. rank: 1 is the best; equal ranks are tied."""

    audio_digest: str
    rank: int
    duration_s: float


@dataclass(frozen=True)
class FrozenComparison:
    """A line of pairs or ranked lists: two or more clips, best first, each once and not all of them tied."""

    prompt: str
    clips: tuple[FrozenClip, ...]


@dataclass(frozen=True)
class Export:
    """What a dataset version holds, in its order: samples or comparisons, never both."""

    samples: Sequence[FrozenSample] = ()
    comparisons: Sequence[FrozenComparison] = ()

    def audio_digests(self) -> list[str]:
        """The digest of every clip, each once."""
        compared = (clip.audio_digest for comparison in self.comparisons for clip in comparison.clips)
        return list(dict.fromkeys([*(sample.audio_digest for sample in self.samples), *compared]))

    def training_samples(self, audio_path: Callable[[str], Path]) -> list[TrainingSample]:
        """Its samples as an engine takes them. audio_path: from a digest to the local file that has it."""
        return [
            TrainingSample(
                prompt=s.prompt, audio_path=audio_path(s.audio_digest), audio_digest=s.audio_digest, rating=s.rating
            )
            for s in self.samples
        ]

    def training_comparisons(self, audio_path: Callable[[str], Path]) -> list[TrainingComparison]:
        """Its comparisons as an engine takes them. audio_path: as above."""
        return [
            TrainingComparison(
                prompt=comparison.prompt,
                clips=tuple(
                    TrainingClip(audio_path=audio_path(c.audio_digest), audio_digest=c.audio_digest, rank=c.rank)
                    for c in comparison.clips
                ),
            )
            for comparison in self.comparisons
        ]


def read_export(data: bytes) -> Export:
    """What the bytes of an export say. Raises DataInvalid naming the first line that is wrong."""
    if data and not data.endswith(b"\n"):
        raise DataInvalid("the data set ends in the middle of a line; fetch it again")
    samples: list[FrozenSample] = []
    comparisons: list[FrozenComparison] = []
    for number, line in enumerate(data.split(b"\n")[:-1], start=1):
        try:
            read = _frozen(json.loads(line))
            if isinstance(read, FrozenSample):
                samples.append(read)
            else:
                comparisons.append(read)
            if samples and comparisons:
                raise ValueError("rated clips and comparisons do not stand in one version")
        except (ArithmeticError, RecursionError, TypeError, ValueError) as error:
            raise DataInvalid(f"line {number} of the data set: {error}; freeze a new version", line=number) from error
    if not samples and not comparisons:
        raise DataInvalid("the data set is empty; freeze a version with some clips or comparisons")
    return Export(samples, comparisons)


def _frozen(record: object) -> FrozenSample | FrozenComparison:
    """TypeError and ValueError, among others, where a value is of another type or out of its range."""
    record = record if isinstance(record, dict) else {}
    if set(record) == _SAMPLE_KEYS:
        return _sample(record)
    if set(record) == _COMPARISON_KEYS:
        return _comparison(record)
    known = " or ".join(", ".join(sorted(keys)) for keys in (_SAMPLE_KEYS, _COMPARISON_KEYS))
    raise ValueError(f"must be an object with the keys {known}")


def _sample(record: Mapping[str, Any]) -> FrozenSample:
    sample = dataset_pb2.Sample(**record)
    _require_contract(sample)
    return FrozenSample(sample.prompt, sample.audio_digest, sample.rating, dict(sample.tags), _length(sample))


def _comparison(record: Mapping[str, Any]) -> FrozenComparison:
    clips = record["clips"]
    if not isinstance(clips, list) or not all(isinstance(clip, dict) and set(clip) == _CLIP_KEYS for clip in clips):
        raise ValueError(f"clips must be a list of objects with the keys {', '.join(sorted(_CLIP_KEYS))}")
    comparison = dataset_pb2.Comparison(prompt=record["prompt"], clips=clips)
    _require_contract(comparison)
    frozen = tuple(FrozenClip(clip.audio_digest, clip.rank, _length(clip)) for clip in comparison.clips)
    if any(worse.rank < better.rank for better, worse in pairwise(frozen)):
        raise ValueError("its clips are not best first")
    return FrozenComparison(comparison.prompt, frozen)


def _require_contract(message: Message) -> None:
    problems = spec.check(message)
    if problems:
        raise ValueError(str(problems[0]))


def _length(clip: dataset_pb2.Sample | dataset_pb2.RankedClip) -> float:
    if not math.isfinite(clip.duration_s) or clip.duration_s <= 0:
        raise ValueError(f"duration_s is {clip.duration_s}, not above 0")
    return clip.duration_s
