"""How pairs and ranked lists follow from a data set: by tunesmith.preferences, as they do without a control plane."""

from __future__ import annotations

from collections.abc import Sequence

from control_plane.datasets.model import Comparison, Sample, export_ranked, form_of
from control_plane.errors import DatasetEmpty
from tunesmith import preferences
from tunesmith.v1 import dataset_pb2

LEAST_GAP = 1e-9  # ratings closer than this are taken to be equal


def derive(
    dataset_id: str, samples: Sequence[Sample], comparisons: Sequence[Comparison], wanted: dataset_pb2.Derivation
) -> tuple[bytes, dataset_pb2.Derivation]:
    """The JSONL of what follows, with the settings in force and the counts.

    wanted: settings, which may be open. Raises DatasetEmpty where nothing follows.
    """
    rated = [preferences.RatedClip(sample.prompt, sample.audio_digest, sample.rating) for sample in samples]
    said = [
        preferences.Ranked(each.prompt, tuple((clip.audio_digest, clip.rank) for clip in each.clips))
        for each in comparisons
    ]
    lists, derivation = preferences.derive(rated, said, wanted)
    if not lists:
        raise DatasetEmpty(_why_nothing(samples, derivation), dataset_id=dataset_id)
    durations_s = {sample.audio_digest: sample.duration_s for sample in samples}
    durations_s |= {clip.audio_digest: clip.duration_s for each in comparisons for clip in each.clips}
    return export_ranked(lists, durations_s), derivation


def _why_nothing(samples: Sequence[Sample], derivation: dataset_pb2.Derivation) -> str:
    what = f"no {form_of(derivation)} follow"
    if not samples:
        return f"{what}: the data set is empty; add samples or comparisons first"
    lowest, highest = dict[str, float](), dict[str, float]()
    for sample in samples:
        lowest[sample.prompt] = min(sample.rating, lowest.get(sample.prompt, sample.rating))
        highest[sample.prompt] = max(sample.rating, highest.get(sample.prompt, sample.rating))
    if not derivation.tie_count:
        alone = f"none of the {len(samples)} samples shares its prompt with another"
        return f"{what}: {alone}; add more clips of a prompt, or compare clips with AddComparisons"
    widest = max(highest[prompt] - lowest[prompt] for prompt in lowest)
    ties = "1 tie" if derivation.tie_count == 1 else f"{derivation.tie_count} ties"
    if widest < LEAST_GAP:
        return f"{what}: {ties}, all between equal ratings; rate the clips apart, or compare them with AddComparisons"
    settings = derivation.pairs if derivation.HasField("pairs") else derivation.ranked_lists
    # rounded to fewer digits, it might be above the widest gap, and of no help
    return f"{what}: {ties}; lower min_rating_gap from {settings.min_rating_gap:g} to {widest:.10g}"
