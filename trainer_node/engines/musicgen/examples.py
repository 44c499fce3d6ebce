"""Examples: what a method learns from at once, the same for every kind of training.

Supervised learns from one clip, DPO from two, ranking from a list; all of them share their prompt and stand best first.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from trainer_node import preflight
from trainer_node.engines.musicgen.family import Clip
from trainer_node.engines.musicgen.features import Features
from trainer_node.engines.musicgen.reference import Reference
from trainer_node.errors import DataInvalid
from trainer_node.training import StopRequested, TrainingClip, TrainingComparison, TrainingJob, TrainingSample
from tunesmith.v1 import job_spec_pb2


@dataclass(frozen=True)
class Example:
    """Clips of one prompt, best first. ranks: 1 is the best, equal ranks are tied.

    reference: log-probability of each clip under the reference in nats, summed over its tokens; empty for methods that
    need none.
    """

    clips: tuple[Clip, ...]
    ranks: tuple[int, ...] = (1,)
    reference: tuple[float, ...] = ()


def divide(
    job: TrainingJob, validation: job_spec_pb2.ValidationSettings, *, seed: int
) -> tuple[list[TrainingComparison], list[TrainingComparison]]:
    """The job's data in the part to train on and the part held out; a rated sample is a comparison of one clip."""
    fraction = validation.validation_fraction
    if job.comparisons:
        return preflight.split_comparisons(job.comparisons, fraction=fraction, seed=seed)
    training, held_out = preflight.split(job.samples, fraction=fraction, seed=seed)
    return [_alone(sample) for sample in training], [_alone(sample) for sample in held_out]


def _alone(sample: TrainingSample) -> TrainingComparison:
    clip = TrainingClip(audio_path=sample.audio_path, audio_digest=sample.audio_digest, rank=1)
    return TrainingComparison(prompt=sample.prompt, clips=(clip,))


def encode(comparisons: Sequence[TrainingComparison], features: Features, stop: StopRequested) -> list[Example]:
    """Examples with the codes of every clip; one that occurs often with a prompt is held once.

    Raises DataInvalid naming every clip that is too short or cannot be told from a better one; Stopped if asked to.
    """
    samples = {
        (one.prompt, clip.audio_digest): TrainingSample(
            prompt=one.prompt, audio_path=clip.audio_path, audio_digest=clip.audio_digest
        )
        for one in comparisons
        for clip in one.clips
    }
    clips = dict(zip(samples, features.clips(list(samples.values()), stop), strict=True))
    examples = [
        Example(
            clips=tuple(clips[one.prompt, clip.audio_digest] for clip in one.clips),
            ranks=tuple(clip.rank for clip in one.clips),
        )
        for one in comparisons
    ]
    _require_distinct(comparisons, examples, features)
    return examples


def _require_distinct(
    comparisons: Sequence[TrainingComparison], examples: Sequence[Example], features: Features
) -> None:
    """Raises DataInvalid naming clips of different rank whose codes are the same: no model can prefer one of them.

    Files may differ where codes do not: in their format, or after the part that is trained on.
    """
    problems = [
        _same_codes(comparison.prompt, comparison.clips[better], comparison.clips[worse], clip, features)
        for comparison, example in zip(comparisons, examples, strict=True)
        for better, worse, clip in _indistinct(example)
    ]
    if problems:
        unique = list(dict.fromkeys(problems))
        more = f"; and {len(unique) - 10} more" if len(unique) > 10 else ""
        raise DataInvalid("; ".join(unique[:10]) + more)


def _indistinct(example: Example) -> Iterator[tuple[int, int, Clip]]:
    """Places of clips with the codes of a better one, after the place of the best that has them."""
    best: dict[tuple[int, bytes], int] = {}
    for place, clip in enumerate(example.clips):
        first = best.setdefault((clip.codes_KT.shape[1], clip.codes_KT.numpy().tobytes()), place)
        if example.ranks[first] < example.ranks[place]:
            yield first, place, clip


def _same_codes(prompt: str, better: TrainingClip, worse: TrainingClip, clip: Clip, features: Features) -> str:
    longest = int(features.max_clip_s * features.base.frame_rate_hz)
    cut = f", or raise max_clip_s from {features.max_clip_s:g}" if clip.codes_KT.shape[1] >= longest else ""
    return (
        f"two clips of the prompt {prompt[:60]!r} have different ranks and the same codes (audio "
        f"{better.audio_digest[:12]}… and {worse.audio_digest[:12]}…), so the model cannot tell them apart; take one "
        f"of them out of the data set{cut}"
    )


def with_reference(examples: Iterable[Example], reference: Reference, stop: StopRequested) -> list[Example]:
    """The same examples with the log-probabilities of their clips under the reference. Raises Stopped if asked to."""
    return [
        replace(example, reference=tuple(reference.logp(clip, stop) for clip in example.clips)) for example in examples
    ]
