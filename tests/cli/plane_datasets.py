"""The data sets of the fake control plane: samples, comparisons, and what is frozen of them."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from typing import Any

from control_plane.errors import (
    ComparisonInvalid,
    DatasetEmpty,
    DatasetNotFound,
    DatasetVersionNotFound,
    NameTaken,
    SampleInvalid,
)
from services.rpc.paging import cursor
from tests.cli.plane_state import State, id_of, listed
from tunesmith.errors import FieldProblem, InvalidField
from tunesmith.preferences import Ranked, RatedClip, derive
from tunesmith.v1 import dataset_pb2, dataset_pb2_grpc


class Datasets(dataset_pb2_grpc.DatasetServiceServicer):
    def __init__(self, state: State) -> None:
        self.state = state

    def CreateDataset(self, request: Any, context: Any) -> Any:
        if any(one.name == request.dataset.name for one in self.state.datasets):
            raise NameTaken(f"{request.dataset.name} belongs to another data set; choose another name")
        made = dataset_pb2.Dataset(name=request.dataset.name, description=request.dataset.description)
        made.dataset_id = id_of("dst", len(self.state.datasets) + 1)
        self.state.datasets.append(made)
        return dataset_pb2.CreateDatasetResponse(dataset=made)

    def GetDataset(self, request: Any, context: Any) -> Any:
        found = dataset_pb2.Dataset()
        found.CopyFrom(self._dataset(request.dataset_id))
        found.sample_count = len(self._samples(request.dataset_id))
        found.comparison_count = len(self._comparisons(request.dataset_id))
        return dataset_pb2.GetDatasetResponse(dataset=found)

    def ListDatasets(self, request: Any, context: Any) -> Any:
        found = [one for one in self.state.datasets if request.name in ("", one.name)]
        page, token = listed(request, found, lambda dataset: dataset.dataset_id)
        return dataset_pb2.ListDatasetsResponse(datasets=page, next_page_token=token)

    def AddSamples(self, request: Any, context: Any) -> Any:
        self.state.requests.append(request)
        known = self._samples(request.dataset_id)
        if problems := list(self._refused("samples", ([sample] for sample in request.samples))):
            raise SampleInvalid(f"{len(problems)} samples were refused; see the fields", fields=problems)
        there = {(sample.prompt, sample.audio_digest) for sample in known}
        new = {(sample.prompt, sample.audio_digest): sample for sample in reversed(request.samples)}
        added = [sample for key, sample in reversed(new.items()) if key not in there]
        for sample in added:
            kept = dataset_pb2.Sample()
            kept.CopyFrom(sample)
            kept.sample_id = id_of("smp", sum(map(len, self.state.samples.values())) + 1)
            known.append(kept)
        return dataset_pb2.AddSamplesResponse(added_count=len(added), duplicate_count=len(request.samples) - len(added))

    def ListSamples(self, request: Any, context: Any) -> Any:
        """Those of a data set; of versions, the fake keeps none."""
        page = cursor(request)
        rest = [one for one in self._samples(request.dataset_id) if one.sample_id > (page.after or "")]
        found, token = page.cut(rest[: page.limit], lambda one: one, lambda one: one.sample_id)
        return dataset_pb2.ListSamplesResponse(samples=found, next_page_token=token)

    def AddComparisons(self, request: Any, context: Any) -> Any:
        self.state.requests.append(request)
        known = self._comparisons(request.dataset_id)
        if problems := list(self._refused("comparisons", (one.clips for one in request.comparisons))):
            raise ComparisonInvalid(f"{len(problems)} clips were refused; see the fields", fields=problems)
        before, said = len(known), {_said(one) for one in known}
        for comparison in request.comparisons:
            kept = _best_first(comparison)
            if _said(kept) not in said:
                said.add(_said(kept))
                kept.comparison_id = id_of("cmp", sum(map(len, self.state.comparisons.values())) + 1)
                known.append(kept)
        added = len(known) - before
        return dataset_pb2.AddComparisonsResponse(added_count=added, duplicate_count=len(request.comparisons) - added)

    def ListComparisons(self, request: Any, context: Any) -> Any:
        page = cursor(request)
        rest = [one for one in self._comparisons(request.dataset_id) if one.comparison_id > (page.after or "")]
        found, token = page.cut(rest[: page.limit], lambda one: one, lambda one: one.comparison_id)
        return dataset_pb2.ListComparisonsResponse(comparisons=found, next_page_token=token)

    def CreateDatasetVersion(self, request: Any, context: Any) -> Any:
        self.state.requests.append(request)
        version = self.frozen(request)
        if not request.validate_only:
            version.dataset_version_id = id_of("dsv", len(self.state.versions) + 1)
            of_same = [one for one in self.state.versions if one.dataset_id == request.dataset_id]
            version.number = len(of_same) + 1
            self.state.versions.append(version)
        return dataset_pb2.CreateDatasetVersionResponse(dataset_version=version)

    def version_for(self, dataset_id: str, kind: str, *, store: bool) -> str:
        """What a run of a data set is trained on where it does not say: the newest that fits, or one frozen now."""
        form = {"dpo": "pairs", "ranking": "ranked_lists"}.get(kind)
        for version in reversed(self.state.versions):
            if version.dataset_id == dataset_id and version.derivation.WhichOneof("settings") == form:
                return version.dataset_version_id
        wanted = dataset_pb2.CreateDatasetVersionRequest(dataset_id=dataset_id, validate_only=not store)
        if form:
            getattr(wanted, form).SetInParent()
        made: str = self.CreateDatasetVersion(wanted, None).dataset_version.dataset_version_id
        return made

    def frozen(self, request: Any) -> dataset_pb2.DatasetVersion:
        """What a request would freeze, without its id and number."""
        samples = self._samples(request.dataset_id)
        version = dataset_pb2.DatasetVersion(dataset_id=request.dataset_id)
        form = request.WhichOneof("derive")
        if form:
            if request.HasField("min_rating"):
                raise InvalidField.of([FieldProblem("min_rating", f"not with {form}; leave it out")])
            wanted = dataset_pb2.Derivation(**{form: getattr(request, form)})
            rated = [RatedClip(one.prompt, one.audio_digest, one.rating) for one in samples]
            compared = [
                Ranked(one.prompt, tuple((clip.audio_digest, clip.rank) for clip in one.clips))
                for one in self._comparisons(request.dataset_id)
            ]
            lines: Any
            lines, derivation = derive(rated, compared, wanted)
            version.derivation.CopyFrom(derivation)
            version.sample_count = len(samples)
        else:
            lines = [one for one in samples if not request.HasField("min_rating") or one.rating >= request.min_rating]
            version.sample_count = len(lines)
            if request.HasField("min_rating"):
                version.min_rating = request.min_rating
        if not lines:
            raise DatasetEmpty("nothing passes or follows; add some clips")
        version.digest = hashlib.sha256(repr(lines).encode()).hexdigest()
        return version

    def GetDatasetVersion(self, request: Any, context: Any) -> Any:
        found = [one for one in self.state.versions if one.dataset_version_id == request.dataset_version_id]
        if not found:
            raise DatasetVersionNotFound(f"there is no version {request.dataset_version_id}; see ListDatasetVersions")
        return dataset_pb2.GetDatasetVersionResponse(dataset_version=found[0])

    def ListDatasetVersions(self, request: Any, context: Any) -> Any:
        found = [one for one in self.state.versions if request.dataset_id in ("", one.dataset_id)]
        page, token = listed(request, found, lambda version: version.dataset_version_id)
        return dataset_pb2.ListDatasetVersionsResponse(dataset_versions=page, next_page_token=token)

    def _dataset(self, dataset_id: str) -> dataset_pb2.Dataset:
        found = [one for one in self.state.datasets if one.dataset_id == dataset_id]
        if not found:
            raise DatasetNotFound(f"there is no data set {dataset_id}; see ListDatasets")
        return found[0]

    def _samples(self, dataset_id: str) -> list[dataset_pb2.Sample]:
        return self.state.samples.setdefault(self._dataset(dataset_id).dataset_id, [])

    def _comparisons(self, dataset_id: str) -> list[dataset_pb2.Comparison]:
        return self.state.comparisons.setdefault(self._dataset(dataset_id).dataset_id, [])

    def _refused(self, what: str, rows: Iterable[Iterable[Any]]) -> Iterator[FieldProblem]:
        """The clips that the test wants to be refused, by their place."""
        for row, clips in enumerate(rows):
            for place, clip in enumerate(clips):
                if clip.audio_digest in self.state.refused:
                    inside = f".clips[{place}]" if what == "comparisons" else ""
                    yield FieldProblem(f"{what}[{row}]{inside}.audio_digest", self.state.refused[clip.audio_digest])


def _best_first(comparison: dataset_pb2.Comparison) -> dataset_pb2.Comparison:
    """A comparison as it is kept: by rank without a gap, and without what the server sets."""
    ranks = sorted({clip.rank for clip in comparison.clips})
    clips = [
        dataset_pb2.RankedClip(audio_digest=clip.audio_digest, rank=ranks.index(clip.rank) + 1)
        for clip in sorted(comparison.clips, key=lambda clip: clip.rank)
    ]
    return dataset_pb2.Comparison(prompt=comparison.prompt, clips=clips)


def _said(comparison: dataset_pb2.Comparison) -> tuple[str, frozenset[tuple[str, int]]]:
    return comparison.prompt, frozenset((clip.audio_digest, clip.rank) for clip in comparison.clips)
