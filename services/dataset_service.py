"""DatasetService: unpack, one call, pack."""

from __future__ import annotations

from control_plane.datasets import commands, comparison_store, store
from control_plane.db.pool import Database
from control_plane.ports import AudioInspector, Blobs
from services.convert.datasets import (
    comparison_message,
    dataset_message,
    new_comparison,
    new_sample,
    sample_message,
    version_message,
    wanted_derivation,
)
from services.rpc.calls import Context
from services.rpc.paging import cursor
from services.rpc.requests import request_of
from tunesmith.v1 import dataset_pb2, dataset_pb2_grpc


class DatasetService(dataset_pb2_grpc.DatasetServiceServicer):
    """Rated and compared clips, and what is frozen of them. What each RPC promises stands in dataset.proto."""

    def __init__(self, db: Database, blobs: Blobs, inspector: AudioInspector) -> None:
        self._db = db
        self._blobs = blobs
        self._inspector = inspector

    async def CreateDataset(
        self, request: dataset_pb2.CreateDatasetRequest, context: Context
    ) -> dataset_pb2.CreateDatasetResponse:
        """Store an empty data set."""
        given = request.dataset
        dataset = await commands.create_dataset(
            self._db, name=given.name, description=given.description, request=request_of(request)
        )
        return dataset_pb2.CreateDatasetResponse(dataset=dataset_message(dataset))

    async def GetDataset(
        self, request: dataset_pb2.GetDatasetRequest, context: Context
    ) -> dataset_pb2.GetDatasetResponse:
        """Read one."""
        async with self._db.connection() as conn:
            dataset = await store.get(conn, request.dataset_id)
        return dataset_pb2.GetDatasetResponse(dataset=dataset_message(dataset))

    async def ListDatasets(
        self, request: dataset_pb2.ListDatasetsRequest, context: Context
    ) -> dataset_pb2.ListDatasetsResponse:
        """Read a page, newest first."""
        page = cursor(request)
        async with self._db.connection() as conn:
            found = await store.page(
                conn, name=request.name, id_prefix=request.id_prefix, after=page.after, limit=page.limit
            )
        shown, token = page.cut(found, dataset_message, lambda dataset: dataset.dataset_id)
        return dataset_pb2.ListDatasetsResponse(datasets=shown, next_page_token=token)

    async def AddSamples(
        self, request: dataset_pb2.AddSamplesRequest, context: Context
    ) -> dataset_pb2.AddSamplesResponse:
        """Check and store clips, all or none."""
        added, duplicates = await commands.add_samples(
            self._db,
            self._inspector,
            dataset_id=request.dataset_id,
            samples=[new_sample(sample) for sample in request.samples],
        )
        return dataset_pb2.AddSamplesResponse(added_count=added, duplicate_count=duplicates)

    async def ListSamples(
        self, request: dataset_pb2.ListSamplesRequest, context: Context
    ) -> dataset_pb2.ListSamplesResponse:
        """Read a page of a data set or of a version, oldest first."""
        page = cursor(request)
        async with self._db.connection() as conn:
            if version_id := request.dataset_version_id:
                found = await store.version_samples(
                    conn, dataset_version_id=version_id, after=page.after, limit=page.limit
                )
            else:
                found = await store.samples(conn, dataset_id=request.dataset_id, after=page.after, limit=page.limit)
        shown, token = page.cut(found, sample_message, lambda sample: sample.sample_id)
        return dataset_pb2.ListSamplesResponse(samples=shown, next_page_token=token)

    async def AddComparisons(
        self, request: dataset_pb2.AddComparisonsRequest, context: Context
    ) -> dataset_pb2.AddComparisonsResponse:
        """Check and store comparisons, all or none."""
        added, duplicates = await commands.add_comparisons(
            self._db,
            self._inspector,
            dataset_id=request.dataset_id,
            comparisons=[new_comparison(comparison) for comparison in request.comparisons],
        )
        return dataset_pb2.AddComparisonsResponse(added_count=added, duplicate_count=duplicates)

    async def ListComparisons(
        self, request: dataset_pb2.ListComparisonsRequest, context: Context
    ) -> dataset_pb2.ListComparisonsResponse:
        """Read a page, oldest first."""
        page = cursor(request)
        async with self._db.connection() as conn:
            found = await comparison_store.page(conn, dataset_id=request.dataset_id, after=page.after, limit=page.limit)
        shown, token = page.cut(found, comparison_message, lambda comparison: comparison.comparison_id)
        return dataset_pb2.ListComparisonsResponse(comparisons=shown, next_page_token=token)

    async def CreateDatasetVersion(
        self, request: dataset_pb2.CreateDatasetVersionRequest, context: Context
    ) -> dataset_pb2.CreateDatasetVersionResponse:
        """Freeze the samples that pass the filter, or what follows from the data set."""
        version = await commands.create_version(
            self._db,
            self._blobs,
            dataset_id=request.dataset_id,
            min_rating=request.min_rating if request.HasField("min_rating") else None,
            wanted=wanted_derivation(request),
            validate_only=request.validate_only,
            request=request_of(request),
        )
        return dataset_pb2.CreateDatasetVersionResponse(dataset_version=version_message(version))

    async def GetDatasetVersion(
        self, request: dataset_pb2.GetDatasetVersionRequest, context: Context
    ) -> dataset_pb2.GetDatasetVersionResponse:
        """Read one."""
        async with self._db.connection() as conn:
            version = await store.get_version(conn, request.dataset_version_id)
        return dataset_pb2.GetDatasetVersionResponse(dataset_version=version_message(version))

    async def ListDatasetVersions(
        self, request: dataset_pb2.ListDatasetVersionsRequest, context: Context
    ) -> dataset_pb2.ListDatasetVersionsResponse:
        """Read a page, newest first."""
        page = cursor(request)
        async with self._db.connection() as conn:
            found = await store.versions(
                conn,
                dataset_id=request.dataset_id,
                id_prefix=request.id_prefix,
                after=page.after,
                limit=page.limit,
            )
        shown, token = page.cut(found, version_message, lambda version: version.dataset_version_id)
        return dataset_pb2.ListDatasetVersionsResponse(dataset_versions=shown, next_page_token=token)

    async def DeleteDatasetVersion(
        self, request: dataset_pb2.DeleteDatasetVersionRequest, context: Context
    ) -> dataset_pb2.DeleteDatasetVersionResponse:
        """Delete one that nothing uses."""
        await commands.delete_version(self._db, dataset_version_id=request.dataset_version_id)
        return dataset_pb2.DeleteDatasetVersionResponse()
