"""Data sets, samples and versions as messages."""

from __future__ import annotations

from control_plane.datasets.model import Dataset, DatasetVersion, NewSample, Sample
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
    )
