"""How pairs and ranked lists follow from a data set: by tunesmith.preferences, as they do without a control plane."""

from __future__ import annotations

from collections.abc import Sequence

from control_plane.datasets.model import Comparison, Sample, export_ranked
from control_plane.errors import DatasetEmpty
from tunesmith import preferences
from tunesmith.v1 import dataset_pb2


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
        raise DatasetEmpty(preferences.why_nothing(rated, derivation), dataset_id=dataset_id)
    durations_s = {sample.audio_digest: sample.duration_s for sample in samples}
    durations_s |= {clip.audio_digest: clip.duration_s for each in comparisons for clip in each.clips}
    return export_ranked(lists, durations_s), derivation
