"""Where ratings go: into a data set, as soon as they are given, so that whatever ends the command loses none."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Protocol

from services.cli.clips import Clip
from services.cli.output import Output
from tunesmith.client.client import Client
from tunesmith.client.errors import ApiError
from tunesmith.errors import FieldProblem
from tunesmith.v1 import dataset_pb2

Given = Counter[float]
"""How often each rating was given."""


@dataclass
class Ratings:
    """What is stored in a data set, and counted. rater: who rates; skipped: clips that were left for another time."""

    client: Client
    out: Output
    dataset_id: str
    rater: str
    given: Given = field(default_factory=Counter)
    skipped: int = 0
    total: dataset_pb2.AddSamplesResponse = field(default_factory=dataset_pb2.AddSamplesResponse)

    def add(self, *rated: tuple[Clip, float]) -> None:
        """Store ratings, all of them or none, and tell programs that asked for JSON. Raises ApiError."""
        samples = [clip.sample(rating, rater=self.rater) for clip, rating in rated]
        request = dataset_pb2.AddSamplesRequest(dataset_id=self.dataset_id, samples=samples)
        with _refusals_by_clip([clip for clip, _ in rated]):
            answer = self.client.datasets.AddSamples(request, timeout=600)
        self.total.added_count += answer.added_count
        self.total.duplicate_count += answer.duplicate_count
        self.given.update(rating for _, rating in rated)
        if self.out.format != "table":
            for sample in samples:
                self.out.message(sample)


class Way(Protocol):
    """A way to rate."""

    @property
    def name(self) -> str:
        """Of the rater, where the command names none."""
        ...

    def rate(self, clips: Sequence[Clip], ratings: Ratings, *, before: int) -> None:
        """Rate the clips one after the other. before: how many were rated earlier."""

    def words(self, given: Given) -> str:
        """What was given, such as `2 with 5, 1 with 3`."""
        ...


@contextmanager
def _refusals_by_clip(clips: Sequence[Clip]) -> Iterator[None]:
    """Tell the server's fields, such as `samples[3]…`, as the clips that they mean."""
    try:
        yield
    except ApiError as error:
        error.fields = tuple(_by_clip(clips, problem) for problem in error.fields)
        raise


def _by_clip(clips: Sequence[Clip], problem: FieldProblem) -> FieldProblem:
    match = re.match(r"samples\[(\d+)\]", problem.path)
    if not match or int(match[1]) >= len(clips):
        return problem
    clip = clips[int(match[1])]
    return FieldProblem(f"{clip.run_id}, seed {clip.seed}, {clip.prompt!r}", problem.what)
