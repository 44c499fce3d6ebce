"""Data sets, samples, comparisons and versions as messages."""

from __future__ import annotations

from control_plane.datasets.model import Comparison, Dataset, DatasetVersion, NewComparison, NewSample, Sample
from services.convert.times import timestamp
from tunesmith.v1 import dataset_pb2


def dataset_message(dataset: Dataset) -> dataset_pb2.Dataset:
    """The data set as clients see it."""
    return dataset_pb2.Dataset(
        dataset_id=dataset.dataset_id,
        name=dataset.name,
        description=dataset.description,
        sample_count=dataset.sample_count,
        create_time=timestamp(dataset.create_time),
        comparison_count=dataset.comparison_count,
    )


def sample_message(sample: Sample) -> dataset_pb2.Sample:
    """The sample as clients see it."""
    return dataset_pb2.Sample(
        sample_id=sample.sample_id,
        prompt=sample.prompt,
        audio_digest=sample.audio_digest,
        rating=sample.rating,
        tags=sample.tags,
        duration_s=sample.duration_s,
        sample_rate_hz=sample.sample_rate_hz,
        channels=sample.channels,
        create_time=timestamp(sample.create_time),
    )


def new_sample(sample: dataset_pb2.Sample) -> NewSample:
    """What a client gives of a sample; measured fields are left out."""
    return NewSample(
        prompt=sample.prompt, audio_digest=sample.audio_digest, rating=sample.rating, tags=dict(sample.tags)
    )


def comparison_message(comparison: Comparison) -> dataset_pb2.Comparison:
    """The comparison as clients see it, best first."""
    return dataset_pb2.Comparison(
        comparison_id=comparison.comparison_id,
        prompt=comparison.prompt,
        clips=[
            dataset_pb2.RankedClip(audio_digest=clip.audio_digest, rank=clip.rank, duration_s=clip.duration_s)
            for clip in comparison.clips
        ],
        create_time=timestamp(comparison.create_time),
    )


def new_comparison(comparison: dataset_pb2.Comparison) -> NewComparison:
    """What a client gives of a comparison."""
    return NewComparison(
        prompt=comparison.prompt, clips=tuple((clip.audio_digest, clip.rank) for clip in comparison.clips)
    )


def version_message(version: DatasetVersion) -> dataset_pb2.DatasetVersion:
    """The version as clients see it."""
    return dataset_pb2.DatasetVersion(
        dataset_version_id=version.dataset_version_id,
        dataset_id=version.dataset_id,
        number=version.number,
        min_rating=version.min_rating,
        sample_count=version.sample_count,
        digest=version.digest,
        size_bytes=version.size_bytes,
        create_time=timestamp(version.create_time),
        derivation=version.derivation,
    )


def wanted_derivation(request: dataset_pb2.CreateDatasetVersionRequest) -> dataset_pb2.Derivation | None:
    """The settings of the pairs or lists that a client asks for; None for rated clips."""
    match request.WhichOneof("derive"):
        case "pairs":
            return dataset_pb2.Derivation(pairs=request.pairs)
        case "ranked_lists":
            return dataset_pb2.Derivation(ranked_lists=request.ranked_lists)
        case _:
            return None
