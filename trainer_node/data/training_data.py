"""What a training in the foreground takes of a data set file: rated clips, or what follows of pairs or lists."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from trainer_node.data.jsonl import DatasetFile, training_samples
from trainer_node.errors import DataInvalid
from trainer_node.training import TrainingClip, TrainingComparison, TrainingSample
from tunesmith.preferences import Ranked, RatedClip, derive, summary, why_nothing
from tunesmith.v1 import dataset_pb2


@dataclass(frozen=True)
class TrainingData:
    """Samples, or comparisons and how they were derived; the other is empty."""

    samples: Sequence[TrainingSample] = ()
    comparisons: Sequence[TrainingComparison] = ()
    derivation: dataset_pb2.Derivation | None = None

    def summary(self) -> str:
        """In words, such as `312 pairs from 140 prompts, 41 ties skipped` or `40 rated clips`."""
        if self.derivation is not None:
            return summary(self.derivation)
        return f"{len(self.samples)} rated clip{'' if len(self.samples) == 1 else 's'}"


def training_data(
    file: DatasetFile, kind: str, *, min_rating: float | None = None, min_rating_gap: float | None = None
) -> TrainingData:
    """What a kind of training takes of a file: `dpo` pairs, `ranking` ranked lists, any other rated clips.

    min_rating: leave out clips rated lower; for rated clips only. min_rating_gap: see PairSettings; for pairs and lists
    only; None takes the default. Raises DataInvalid where nothing is left, or a setting is for another kind, and
    InvalidField where min_rating_gap is out of range.
    """
    if kind not in ("dpo", "ranking"):
        return TrainingData(samples=_samples(file, kind, min_rating=min_rating, min_rating_gap=min_rating_gap))
    if min_rating is not None:
        raise DataInvalid(
            f"{kind} learns from clips that are not liked, too; leave min_rating out, and give min_rating_gap to say "
            "how far two ratings have to be apart"
        )
    if kind == "dpo":
        wanted = dataset_pb2.Derivation(pairs={"min_rating_gap": min_rating_gap})
    else:
        wanted = dataset_pb2.Derivation(ranked_lists={"min_rating_gap": min_rating_gap})
    comparisons, derivation = derived_comparisons(file, wanted)
    return TrainingData(comparisons=comparisons, derivation=derivation)


def derived_comparisons(
    file: DatasetFile, wanted: dataset_pb2.Derivation
) -> tuple[list[TrainingComparison], dataset_pb2.Derivation]:
    """The pairs or lists that follow from a file's ratings and comparisons; see `tunesmith.preferences.derive`.

    Raises DataInvalid where nothing follows.
    """
    rated = [RatedClip(row.prompt, file.digests[row.audio_path], row.rating) for row in file.rated]
    given = [
        Ranked(row.prompt, tuple((file.digests[path], rank) for path, rank in row.clips)) for row in file.comparisons
    ]
    found, derivation = derive(rated, given, wanted)
    if not found:
        raise DataInvalid(why_nothing(rated, derivation))
    paths = {digest: path for path, digest in file.digests.items()}
    comparisons = [
        TrainingComparison(
            prompt=ranked.prompt,
            clips=tuple(
                TrainingClip(audio_path=paths[digest], audio_digest=digest, rank=rank) for digest, rank in ranked.clips
            ),
        )
        for ranked in found
    ]
    return comparisons, derivation


def _samples(
    file: DatasetFile, kind: str, *, min_rating: float | None, min_rating_gap: float | None
) -> list[TrainingSample]:
    if min_rating_gap is not None:
        raise DataInvalid(f"min_rating_gap is for dpo and ranking; leave it out, {kind} takes clips by min_rating")
    if not file.rated:
        raise DataInvalid(
            f"the data set has comparisons only, and {kind} takes rated clips; add rows with audio, prompt and rating, "
            "or train dpo or ranking"
        )
    return training_samples(file.rated, min_rating=min_rating)
