"""Generated clips that wait for a rating: which of them there are, and in what order a person hears them."""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from services.cli.previews import latest

if TYPE_CHECKING:
    from tunesmith.v1.dataset_pb2 import Sample
    from tunesmith.v1.run_pb2 import Preview


@dataclass(frozen=True)
class Clip:
    """A clip that a run has generated. digest: SHA-256 of its WAV file; seed: that of its sampling."""

    prompt: str
    digest: str
    run_id: str
    seed: int

    @property
    def key(self) -> tuple[str, str]:
        """What a data set has once."""
        return self.prompt, self.digest

    def sample(self, rating: float, *, rater: str) -> Sample:
        """The rated clip as AddSamples takes it. rating: 1 to 5."""
        from tunesmith.v1 import dataset_pb2

        tags = {"rater": rater, "run": self.run_id, "seed": str(self.seed)}
        return dataset_pb2.Sample(prompt=self.prompt, audio_digest=self.digest, rating=rating, tags=tags)


def clips_of(previews: Iterable[Preview]) -> list[Clip]:
    """The clips among the previews of runs, each once; of what several attempts have made, that of the last one."""
    files = (one for one in latest(previews) if one.HasField("file"))
    clips = (Clip(one.prompt, one.file.digest, one.run_id, one.seed) for one in files)
    return list({clip.key: clip for clip in clips}.values())


def unrated(clips: Sequence[Clip], samples: Iterable[Sample]) -> list[Clip]:
    """The clips that are not among the samples, in the order given."""
    rated = {(sample.prompt, sample.audio_digest) for sample in samples}
    return [clip for clip in clips if clip.key not in rated]


def in_order(clips: Iterable[Clip], *, seed: int) -> list[Clip]:
    """Prompt by prompt, so that clips that answer the same can be compared; shuffled, so that nothing tells the model.

    The same clips and seed give the same order, in whatever order they were listed.
    """
    shuffle = random.Random(seed).shuffle
    by_prompt: dict[str, list[Clip]] = {}
    for clip in sorted(clips, key=lambda clip: clip.key):
        by_prompt.setdefault(clip.prompt, []).append(clip)
    prompts = list(by_prompt)
    shuffle(prompts)
    for prompt in prompts:
        shuffle(by_prompt[prompt])
    return [clip for prompt in prompts for clip in by_prompt[prompt]]
