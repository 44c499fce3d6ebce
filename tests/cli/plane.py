"""A control plane of dictionaries behind the generated servicers, which can be told to fail or to cut a stream."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from concurrent import futures
from dataclasses import dataclass, field
from typing import Any

import grpc

from services.rpc.errors import DETAILS_KEY, answer
from tunesmith.errors import TunesmithError
from tunesmith.v1 import (
    adapter_pb2,
    adapter_pb2_grpc,
    blob_pb2,
    blob_pb2_grpc,
    dataset_pb2,
    dataset_pb2_grpc,
    experiment_pb2,
    experiment_pb2_grpc,
    run_pb2,
    run_pb2_grpc,
    telemetry_pb2,
    telemetry_pb2_grpc,
)


def id_of(kind: str, number: int) -> str:
    """A well-formed id: run_01J0…0001."""
    return f"{kind}_01J{number:023d}"


RUN = id_of("run", 1)


class Gone(TunesmithError):
    """The server goes down."""

    reason = "UNAVAILABLE"


def refuse(context: grpc.ServicerContext, error: TunesmithError) -> Any:
    """End a call as the real server would."""
    status = answer(error, request_id="req-1234")
    context.set_trailing_metadata(((DETAILS_KEY, status.details),))
    context.abort(status.code, status.message)


@dataclass
class State:
    """What the fake knows. cuts: for each stream by name, after how many frames each of its first calls is cut.

    before: called with request and context at the beginning of a method, by its name.
    """

    runs: dict[str, run_pb2.Run] = field(default_factory=dict)
    experiments: list[experiment_pb2.Experiment] = field(default_factory=list)
    adapters: list[adapter_pb2.Adapter] = field(default_factory=list)
    blobs: dict[str, bytes] = field(default_factory=dict)
    partial: dict[str, bytearray] = field(default_factory=dict)
    log_lines: list[str] = field(default_factory=list)
    losses: list[float] = field(default_factory=list)
    cuts: dict[str, list[int]] = field(default_factory=dict)
    failure: TunesmithError | None = None
    before: dict[str, Callable[[Any, Any], None]] = field(default_factory=dict)
    requests: list[Any] = field(default_factory=list)
    tokens: list[str] = field(default_factory=list)

    def cut_after(self, stream: str) -> int:
        """After how many frames this call of a stream is cut; a huge number where it is not."""
        return self.cuts[stream].pop(0) if self.cuts.get(stream) else 1 << 30

    def begin(self, method: str, request: Any, context: Any) -> None:
        """What a test wants to happen first."""
        if method in self.before:
            self.before[method](request, context)


class Runs(run_pb2_grpc.RunServiceServicer):
    def __init__(self, state: State) -> None:
        self.state = state

    def GetRun(self, request: Any, context: Any) -> Any:
        if self.state.failure:
            refuse(context, self.state.failure)
        return run_pb2.GetRunResponse(run=self.state.runs[request.run_id])

    def ListRuns(self, request: Any, context: Any) -> Any:
        found = sorted((run_id for run_id in self.state.runs if run_id.startswith(request.id_prefix)), reverse=True)
        start = int(request.page_token or 0)
        page = found[start : start + request.page_size]
        token = str(start + len(page)) if start + len(page) < len(found) else ""
        return run_pb2.ListRunsResponse(runs=[self.state.runs[run_id] for run_id in page], next_page_token=token)

    def CreateRun(self, request: Any, context: Any) -> Any:
        self.state.begin("CreateRun", request, context)
        self.state.requests.append(request)
        run = run_pb2.Run(run_id=RUN, display_name=request.display_name, state="RUN_STATE_QUEUED", spec=request.spec)
        if not request.validate_only:
            self.state.runs.setdefault(RUN, run)
        return run_pb2.CreateRunResponse(run=run)

    def WatchRun(self, request: Any, context: Any) -> Iterator[Any]:
        cut = self.state.cut_after("run")
        final = self.state.runs[request.run_id]
        running = run_pb2.Run(run_id=final.run_id, state="RUN_STATE_RUNNING", total_steps=3, total_epochs=1, attempt=1)
        for number, run in enumerate([running, final]):
            if number == cut:
                refuse(context, Gone("going down"))
            yield run_pb2.WatchRunResponse(run=run)


class Telemetry(telemetry_pb2_grpc.TelemetryServiceServicer):
    def __init__(self, state: State) -> None:
        self.state = state

    def WatchLogs(self, request: Any, context: Any) -> Iterator[Any]:
        self.state.tokens.append(request.resume_token)
        self.state.begin("WatchLogs", request, context)
        cut = self.state.cut_after("logs")
        for number in range(int(request.resume_token or 0), len(self.state.log_lines)):
            if number - int(request.resume_token or 0) == cut:
                refuse(context, Gone("going down"))
            line = telemetry_pb2.LogLine(text=self.state.log_lines[number], stream="LOG_STREAM_STDOUT")
            lines = telemetry_pb2.LogLines(lines=[line])
            yield telemetry_pb2.WatchLogsResponse(lines=lines, resume_token=str(number + 1))

    def QueryLogs(self, request: Any, context: Any) -> Any:
        lines = [telemetry_pb2.LogLine(text=text, stream="LOG_STREAM_STDOUT") for text in self.state.log_lines]
        return telemetry_pb2.QueryLogsResponse(lines=lines)

    def WatchMetrics(self, request: Any, context: Any) -> Iterator[Any]:
        for number, loss in enumerate(self.state.losses):
            rows = telemetry_pb2.MetricRows(attempt=1)
            rows.batches.add(names=["loss"], steps=[number + 1], times_us=[1_000_000 * number], values=[loss])
            yield telemetry_pb2.WatchMetricsResponse(rows=rows, resume_token=str(number + 1))

    def QueryMetrics(self, request: Any, context: Any) -> Any:
        count = len(self.state.losses)
        if not count:
            return telemetry_pb2.QueryMetricsResponse(empty_reason="EMPTY_REASON_NO_METRICS_RECORDED")
        series = telemetry_pb2.MetricSeries(
            name="loss", steps=range(1, count + 1), values=self.state.losses, times_us=[0] * count, total_points=count
        )
        return telemetry_pb2.QueryMetricsResponse(series=[series], complete=True)


class Blobs(blob_pb2_grpc.BlobServiceServicer):
    def __init__(self, state: State) -> None:
        self.state = state

    def FindMissingBlobs(self, request: Any, context: Any) -> Any:
        missing = [digest for digest in request.digests if digest not in self.state.blobs]
        return blob_pb2.FindMissingBlobsResponse(missing_digests=missing)

    def GetUpload(self, request: Any, context: Any) -> Any:
        whole = self.state.blobs.get(request.digest)
        if whole is not None:
            return blob_pb2.GetUploadResponse(offset=len(whole), complete=True)
        return blob_pb2.GetUploadResponse(offset=len(self.state.partial.get(request.digest, b"")))

    def UploadBlob(self, messages: Iterator[Any], context: Any) -> Any:
        cut = self.state.cut_after("upload")
        digest, size, part = "", 0, bytearray()
        for number, message in enumerate(messages):
            if number == cut:
                refuse(context, Gone("going down"))
            if not number:
                digest, size = message.digest, message.size_bytes
                part = self.state.partial.setdefault(digest, bytearray())
            assert message.offset == len(part), "the upload goes on where it stopped"
            part += message.data
        assert len(part) == size
        assert hashlib.sha256(part).hexdigest() == digest
        self.state.blobs[digest] = bytes(part)
        return blob_pb2.UploadBlobResponse(digest=digest, size_bytes=size)

    def DownloadBlob(self, request: Any, context: Any) -> Iterator[Any]:
        cut = self.state.cut_after("download")
        whole = self.state.blobs[request.digest]
        self.state.requests.append(request)
        for number, offset in enumerate(range(request.offset, len(whole), 4)):
            if number == cut:
                refuse(context, Gone("going down"))
            data = whole[offset : offset + 4]
            yield blob_pb2.DownloadBlobResponse(offset=offset, data=data, size_bytes=len(whole))


class Adapters(adapter_pb2_grpc.AdapterServiceServicer):
    def __init__(self, state: State) -> None:
        self.state = state

    def ListAdapters(self, request: Any, context: Any) -> Any:
        found = [one for one in self.state.adapters if request.name in ("", one.name)]
        found = [one for one in found if one.adapter_id.startswith(request.id_prefix)]
        return adapter_pb2.ListAdaptersResponse(adapters=found[: request.page_size])

    def GetAdapter(self, request: Any, context: Any) -> Any:
        (found,) = (one for one in self.state.adapters if one.adapter_id == request.adapter_id)
        return adapter_pb2.GetAdapterResponse(adapter=found)

    def DownloadAdapter(self, request: Any, context: Any) -> Iterator[Any]:
        (adapter,) = (one for one in self.state.adapters if one.adapter_id == request.adapter_id)
        cut, sent = self.state.cut_after("adapter"), 0
        paths = [file.path for file in adapter.files]
        for file in adapter.files[paths.index(request.path) :]:
            whole = self.state.blobs[file.digest]
            start = request.offset if file.path == request.path else 0
            for offset in range(start, max(1, len(whole)), 4):
                if sent == cut:
                    refuse(context, Gone("going down"))
                sent += 1
                yield adapter_pb2.DownloadAdapterResponse(file=file, offset=offset, data=whole[offset : offset + 4])


class Experiments(experiment_pb2_grpc.ExperimentServiceServicer):
    def __init__(self, state: State) -> None:
        self.state = state

    def ListExperiments(self, request: Any, context: Any) -> Any:
        found = [one for one in self.state.experiments if request.name in ("", one.name)]
        found = [one for one in found if one.experiment_id.startswith(request.id_prefix)]
        return experiment_pb2.ListExperimentsResponse(experiments=found)


class Datasets(dataset_pb2_grpc.DatasetServiceServicer):
    def ListDatasets(self, request: Any, context: Any) -> Any:
        return dataset_pb2.ListDatasetsResponse()


class FakePlane:
    """The server. state: what it knows; address: where it answers."""

    def __init__(self) -> None:
        self.state = State()
        # 16 threads: a sync server holds one for each open stream
        self._server = grpc.server(futures.ThreadPoolExecutor(16), options=[("grpc.so_reuseport", 0)])
        run_pb2_grpc.add_RunServiceServicer_to_server(Runs(self.state), self._server)
        telemetry_pb2_grpc.add_TelemetryServiceServicer_to_server(Telemetry(self.state), self._server)
        blob_pb2_grpc.add_BlobServiceServicer_to_server(Blobs(self.state), self._server)
        adapter_pb2_grpc.add_AdapterServiceServicer_to_server(Adapters(self.state), self._server)
        experiment_pb2_grpc.add_ExperimentServiceServicer_to_server(Experiments(self.state), self._server)
        dataset_pb2_grpc.add_DatasetServiceServicer_to_server(Datasets(), self._server)
        self.address = f"127.0.0.1:{self._server.add_insecure_port('127.0.0.1:0')}"
        self._server.start()

    def add_run(self, state: str, run_id: str = RUN, **fields: Any) -> run_pb2.Run:
        """Store a run in a state such as `SUCCEEDED`."""
        self.state.runs[run_id] = run_pb2.Run(run_id=run_id, state=f"RUN_STATE_{state}", **fields)
        return self.state.runs[run_id]

    def add_blob(self, data: bytes) -> str:
        """Store bytes; returns their digest."""
        digest = hashlib.sha256(data).hexdigest()
        self.state.blobs[digest] = data
        return digest

    def add_adapter(self, version: int = 1, name: str = "piano", **files: bytes) -> adapter_pb2.Adapter:
        """Store an adapter with files whose names have `_` for their dot."""
        adapter = adapter_pb2.Adapter(adapter_id=id_of("adp", version), name=name, version=version)
        for path, data in files.items():
            adapter.files.add(path=path.replace("_", "."), digest=self.add_blob(data), size_bytes=len(data))
        self.state.adapters.insert(0, adapter)
        return adapter

    def stop(self) -> None:
        """Go down at once."""
        self._server.stop(0).wait()
