"""Adapters, their evaluations and language models of the fake control plane."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import PurePosixPath
from typing import Any, NamedTuple

from control_plane.errors import BlobNotFound, EtagMismatch, OffsetOutOfRange, StartAdapterUnsuitable
from services.evaluation_words import heard
from services.rpc.masks import paths_of
from tests.cli.plane_state import TIME_US, Gone, State, id_of, listed, refuse
from tunesmith.errors import FieldProblem, InvalidField
from tunesmith.evaluated_runs import EvaluatedRun, problems
from tunesmith.v1 import (
    adapter_pb2,
    adapter_pb2_grpc,
    blob_pb2,
    job_event_pb2,
    job_spec_pb2,
    model_pb2,
    model_pb2_grpc,
)

CHUNK_BYTES = 4


class Chunk(NamedTuple):
    """Bytes of a file. offset: of `data` in it."""

    file: blob_pb2.File
    offset: int
    data: bytes


def chunks(state: State, owner: str, files: Sequence[blob_pb2.File], request: Any, context: Any) -> Iterator[Chunk]:
    """What a download gives, cut where a test wants it. owner: `adapter` or `model`."""
    files = sorted(files, key=lambda file: file.path)
    cut, sent = state.cut_after(owner), 0
    paths = [file.path for file in files]
    path = request.path or paths[0]
    if path not in paths:
        raise InvalidField.of([FieldProblem("path", f"no file of this {owner}")])
    for file in files[paths.index(path) :]:
        start = request.offset if file.path == path else 0
        if start > file.size_bytes:
            raise OffsetOutOfRange(f"{file.path} has {file.size_bytes} bytes")
        whole = state.blob(file.digest, start)
        if start == len(whole) and whole:
            continue
        for offset in range(start, len(whole), CHUNK_BYTES) or range(1):
            if sent == cut:
                refuse(context, Gone("going down"))
            sent += 1
            yield Chunk(file, offset, whole[offset : offset + CHUNK_BYTES])


class Adapters(adapter_pb2_grpc.AdapterServiceServicer):
    def __init__(self, state: State) -> None:
        self.state = state

    def ListAdapters(self, request: Any, context: Any) -> Any:
        found = [
            one
            for one in self.state.adapters
            if request.name in ("", one.name)
            and request.experiment_id in ("", one.experiment_id)
            and request.start_adapter_id in ("", one.start_adapter_id)
        ]
        page, token = listed(request, found, lambda adapter: adapter.adapter_id)
        return adapter_pb2.ListAdaptersResponse(adapters=page, next_page_token=token)

    def GetAdapter(self, request: Any, context: Any) -> Any:
        return adapter_pb2.GetAdapterResponse(adapter=self.state.adapter(request.adapter_id))

    def GetAdapterReport(self, request: Any, context: Any) -> Any:
        found = self.state.adapter(request.adapter_id)
        report = job_event_pb2.TrainingReport(config=found.training_config)
        newest = [one for one in self.state.evaluations if one.adapter_id == request.adapter_id][:-21:-1]
        markdown = f"# {found.name}@{found.version}\n" + (f"\n{heard(newest)}\n" if newest else "")
        return adapter_pb2.GetAdapterReportResponse(report=report, markdown=markdown, evaluations=newest)

    def CreateAdapterEvaluation(self, request: Any, context: Any) -> Any:
        self.state.begin("CreateAdapterEvaluation", request, context)
        self.state.requests.append(request)
        given = request.evaluation
        self.state.adapter(given.adapter_id)
        runs = [
            EvaluatedRun.of(self.state.run(run_id)) if run_id else None
            for run_id in (given.before_run_id, given.after_run_id)
        ]
        if found := list(problems(given.adapter_id, *runs)):
            raise InvalidField.of(found)
        made = self.state.evaluated.get(request.request_id)
        if made is None:
            made = adapter_pb2.AdapterEvaluation()
            made.CopyFrom(given)
            made.evaluation_id = id_of("evl", len(self.state.evaluations) + 1)
            made.create_time.FromMicroseconds(TIME_US)
            self.state.evaluations.append(made)
        if request.request_id:
            self.state.evaluated[request.request_id] = made
        return adapter_pb2.CreateAdapterEvaluationResponse(evaluation=made)

    def ListAdapterEvaluations(self, request: Any, context: Any) -> Any:
        if request.adapter_id:
            self.state.adapter(request.adapter_id)
        found = [one for one in self.state.evaluations if request.adapter_id in ("", one.adapter_id)]
        page, token = listed(request, found, lambda one: one.evaluation_id)
        return adapter_pb2.ListAdapterEvaluationsResponse(evaluations=page, next_page_token=token)

    def DownloadAdapter(self, request: Any, context: Any) -> Iterator[Any]:
        files = self.state.adapter(request.adapter_id).files
        for chunk in chunks(self.state, "adapter", files, request, context):
            yield adapter_pb2.DownloadAdapterResponse(**chunk._asdict())


class Models(model_pb2_grpc.ModelServiceServicer):
    def __init__(self, state: State) -> None:
        self.state = state

    def ListModels(self, request: Any, context: Any) -> Any:
        found = [
            one
            for one in self.state.models
            if request.name in ("", one.name) and request.experiment_id in ("", one.experiment_id)
        ]
        page, token = listed(request, found, lambda model: model.model_id)
        return model_pb2.ListModelsResponse(models=page, next_page_token=token)

    def GetModel(self, request: Any, context: Any) -> Any:
        return model_pb2.GetModelResponse(model=self.state.model(request.model_id))

    def GetModelReport(self, request: Any, context: Any) -> Any:
        found = self.state.model(request.model_id)
        report = job_event_pb2.TrainingReport(config=found.training_config, final_loss=found.final_loss)
        return model_pb2.GetModelReportResponse(report=report, markdown=f"# {found.name}@{found.version}\n")

    def UpdateModel(self, request: Any, context: Any) -> Any:
        found = self.state.model(request.model.model_id)
        paths_of(request.update_mask, changeable=("labels",))
        if request.model.etag not in ("", found.etag):
            raise EtagMismatch("somebody else changed it meanwhile; read it again")
        found.labels.clear()
        found.labels.update(request.model.labels)
        found.etag += "+"
        return model_pb2.UpdateModelResponse(model=found)

    def DownloadModel(self, request: Any, context: Any) -> Iterator[Any]:
        files = self.state.model(request.model_id).files
        for chunk in chunks(self.state, "model", files, request, context):
            yield model_pb2.DownloadModelResponse(**chunk._asdict())


def with_player(state: State, spec: job_spec_pb2.JobSpec) -> job_spec_pb2.JobSpec:
    """`spec` with the base model of the adapter that plays, if any. Raises AdapterNotFound, StartAdapterUnsuitable."""
    player = spec.generate.player
    if player.adapter_id:
        adapter = state.adapter(player.adapter_id)
        if player.base_model not in ("", adapter.base_model):
            what = f"{adapter.name}@{adapter.version} was trained on {adapter.base_model}; choose another adapter"
            raise StartAdapterUnsuitable(what)
        player.base_model = adapter.base_model
    return spec


def require_corpus(state: State, spec: job_spec_pb2.JobSpec) -> None:
    """What CreateRun asks of the files of a corpus. Raises InvalidField, BlobNotFound."""
    files = spec.tiny_lm.corpus.corpus_files
    names = [file.name.lower() for file in files]
    for place, name in enumerate(names):
        folders = {str(folder) for folder in PurePosixPath(name).parents}
        if name in names[:place] or folders & set(names):
            path = f"spec.tiny_lm.corpus.corpus_files[{place}].name"
            raise InvalidField.of([FieldProblem(path, f"{name} does not go with another; rename one of them")])
    for file in files:
        if file.digest not in state.blobs:
            what = f"{file.name} is not uploaded; upload it with UploadBlob, then create the run again"
            raise BlobNotFound(what, digest=file.digest)
