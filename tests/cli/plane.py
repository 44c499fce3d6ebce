"""A control plane of dictionaries behind the generated servicers, which can be told to fail or to cut a stream."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Iterator, Mapping
from concurrent import futures
from typing import Any

import grpc

from control_plane.errors import (
    BlobCorrupt,
    UploadOffset,
)
from control_plane.runs.model import TAKES
from services.rpc.paging import cursor
from services.rpc.watch import InvalidResumeToken
from tests.cli.plane_datasets import Datasets
from tests.cli.plane_models import Adapters, Models, require_corpus, with_player
from tests.cli.plane_state import (
    RUN,
    TERMINAL,
    TIME_US,
    Edge,
    Gone,
    State,
    id_of,
    listed,
    refuse,
    require_valid,
    watched,
)
from tunesmith import spec
from tunesmith.v1 import (
    adapter_pb2,
    adapter_pb2_grpc,
    blob_pb2,
    blob_pb2_grpc,
    dataset_pb2_grpc,
    experiment_pb2,
    experiment_pb2_grpc,
    job_event_pb2,
    model_pb2,
    model_pb2_grpc,
    run_pb2,
    run_pb2_grpc,
    telemetry_pb2,
    telemetry_pb2_grpc,
)


class Runs(run_pb2_grpc.RunServiceServicer):
    def __init__(self, state: State, datasets: Datasets) -> None:
        self.state, self.datasets = state, datasets

    def GetRun(self, request: Any, context: Any) -> Any:
        if self.state.failure:
            refuse(context, self.state.failure)
        return run_pb2.GetRunResponse(run=self.state.run(request.run_id))

    def ListRuns(self, request: Any, context: Any) -> Any:
        found = [
            run
            for run in self.state.runs.values()
            if request.experiment_id in ("", run.experiment_id) and (not request.states or run.state in request.states)
        ]
        page, token = listed(request, found, lambda run: run.run_id)
        return run_pb2.ListRunsResponse(runs=page, next_page_token=token)

    def CreateRun(self, request: Any, context: Any) -> Any:
        """Queue a run. Where a test has put one under its id, that is what becomes of it."""
        self.state.begin("CreateRun", request, context)
        self.state.requests.append(request)
        experiment = self.state.experiment(request.experiment_id)
        run = run_pb2.Run(
            display_name=request.display_name,
            experiment_id=request.experiment_id,
            state="RUN_STATE_QUEUED",
            spec=spec.merge(experiment.default_spec, request.spec),
            dataset_version_id=request.dataset_version_id,
            labels=request.labels,
        )
        require_corpus(self.state, run.spec)
        if run.spec.HasField("generate"):
            run.spec.CopyFrom(spec.resolve(with_player(self.state, run.spec)))
        if experiment.dataset_id and not run.dataset_version_id and TAKES[spec.kind_of(run.spec)]:
            store = not request.validate_only
            run.dataset_version_id = self.datasets.version_for(
                experiment.dataset_id, spec.kind_of(run.spec), store=store
            )
        if request.validate_only:
            return run_pb2.CreateRunResponse(run=run)
        if request.request_id not in self.state.created:
            run.run_id = id_of("run", len(self.state.created) + 1)
            self.state.runs.setdefault(run.run_id, run)
            self.state.created[request.request_id or run.run_id] = run
            return run_pb2.CreateRunResponse(run=run)
        return run_pb2.CreateRunResponse(run=self.state.created[request.request_id])

    def ListPreviews(self, request: Any, context: Any) -> Any:
        self.state.begin("ListPreviews", request, context)
        self.state.run(request.run_id)
        page = cursor(request)
        start = 0 if page.after is None else int(page.after) + 1
        previews = [one for one in self.state.previews if one.run_id in ("", request.run_id)]
        numbers = range(start, len(previews))
        found, token = page.cut(list(numbers[: page.limit]), lambda number: previews[number], str)
        return run_pb2.ListPreviewsResponse(previews=found, next_page_token=token)

    def WatchRun(self, request: Any, context: Any) -> Iterator[Any]:
        self.state.begin("WatchRun", request, context)
        cut, shown = self.state.cut_after("run"), run_pb2.Run()

        def read() -> run_pb2.Run | None:
            earlier = self.state.earlier.get(request.run_id)
            run = earlier.pop(0) if earlier else self.state.run(request.run_id)
            return None if run == shown else run

        for number, run in enumerate(watched(self.state, request.run_id, context, read)):
            if number == cut:
                refuse(context, Gone("going down"))
            if run is None:
                yield run_pb2.WatchRunResponse(heartbeat=run_pb2.Heartbeat())
            else:
                shown.CopyFrom(run)
                yield run_pb2.WatchRunResponse(run=run)


class Telemetry(telemetry_pb2_grpc.TelemetryServiceServicer):
    def __init__(self, state: State) -> None:
        self.state = state

    def WatchLogs(self, request: Any, context: Any) -> Iterator[Any]:
        self.state.tokens.append(request.resume_token)
        self.state.begin("WatchLogs", request, context)
        cut, start = self.state.cut_after("logs"), _resumed(request)
        at = start

        def read() -> telemetry_pb2.LogLine | None:
            return self._line(at) if at < len(self.state.log_lines) else None

        for line in watched(self.state, request.run_id, context, read):
            if at - start == cut:
                refuse(context, Gone("going down"))
            if line is None:
                yield telemetry_pb2.WatchLogsResponse(heartbeat=run_pb2.Heartbeat(), resume_token=str(at))
            else:
                at += 1
                yield telemetry_pb2.WatchLogsResponse(lines=telemetry_pb2.LogLines(lines=[line]), resume_token=str(at))

    def QueryLogs(self, request: Any, context: Any) -> Any:
        self.state.run(request.run_id)
        page = cursor(request)
        after = -1 if page.after is None else int(page.after)
        found = [
            number
            for number, text in enumerate(self.state.log_lines)
            if number > after and request.contains in text and request.stream in (0, job_event_pb2.LOG_STREAM_STDOUT)
        ]
        lines, token = page.cut(found[: page.limit], self._line, str)
        return telemetry_pb2.QueryLogsResponse(lines=lines, next_page_token=token)

    def _line(self, number: int) -> telemetry_pb2.LogLine:
        line = telemetry_pb2.LogLine(text=self.state.log_lines[number], stream="LOG_STREAM_STDOUT", attempt=1)
        line.time.FromMicroseconds(TIME_US + number)
        return line

    def WatchMetrics(self, request: Any, context: Any) -> Iterator[Any]:
        at = _resumed(request)

        def read() -> job_event_pb2.MetricBatch | None:
            metric = self.state.metric
            if at >= len(self.state.losses) or (request.names and metric not in request.names):
                return None
            return job_event_pb2.MetricBatch(
                names=[metric], steps=[at + 1], times_us=[TIME_US + at], values=[self.state.losses[at]]
            )

        for batch in watched(self.state, request.run_id, context, read):
            if batch is None:
                yield telemetry_pb2.WatchMetricsResponse(heartbeat=run_pb2.Heartbeat(), resume_token=str(at))
            else:
                at += 1
                rows = telemetry_pb2.MetricRows(attempt=1, batches=[batch])
                yield telemetry_pb2.WatchMetricsResponse(rows=rows, resume_token=str(at))

    def QueryMetrics(self, request: Any, context: Any) -> Any:
        complete = self.state.run(request.run_id).state in TERMINAL
        losses = self.state.losses
        if not losses or (request.names and self.state.metric not in request.names):
            why = "EMPTY_REASON_NO_MATCH" if losses else "EMPTY_REASON_NO_METRICS_RECORDED"
            return telemetry_pb2.QueryMetricsResponse(empty_reason=why, complete=complete)
        series = telemetry_pb2.MetricSeries(
            name=self.state.metric,
            steps=range(1, len(losses) + 1),
            values=losses,
            times_us=range(TIME_US, TIME_US + len(losses)),
            total_points=len(losses),
            non_finite_steps=[step for step, loss in enumerate(losses, 1) if not math.isfinite(loss)],
        )
        return telemetry_pb2.QueryMetricsResponse(series=[series], complete=complete)


def _resumed(request: Any) -> int:
    if request.resume_token and not request.resume_token.isdecimal():
        raise InvalidResumeToken("this watch did not give resume_token; start again without it")
    return int(request.resume_token or 0)


class Blobs(blob_pb2_grpc.BlobServiceServicer):
    def __init__(self, state: State) -> None:
        self.state = state

    def FindMissingBlobs(self, request: Any, context: Any) -> Any:
        missing = [digest for digest in dict.fromkeys(request.digests) if digest not in self.state.blobs]
        return blob_pb2.FindMissingBlobsResponse(missing_digests=missing)

    def GetUpload(self, request: Any, context: Any) -> Any:
        whole = self.state.blobs.get(request.digest)
        if whole is not None:
            return blob_pb2.GetUploadResponse(offset=len(whole), complete=True)
        return blob_pb2.GetUploadResponse(offset=len(self.state.partial.get(request.digest, b"")))

    def UploadBlob(self, messages: Iterator[Any], context: Any) -> Any:
        cut = self.state.cut_after("upload")
        first, part = blob_pb2.UploadBlobRequest(), bytearray()
        for number, message in enumerate(messages):
            if number == cut:
                refuse(context, Gone("going down"))
            if not number:
                require_valid(message)
                first.CopyFrom(message)
                if not first.digest:
                    break
                if first.digest in self.state.blobs:
                    size = len(self.state.blobs[first.digest])
                    return blob_pb2.UploadBlobResponse(digest=first.digest, size_bytes=size)
                part = self.state.partial.setdefault(first.digest, bytearray())
                if not message.offset:
                    part.clear()
            if message.offset != len(part):
                raise UploadOffset(f"go on from offset {len(part)}", offset=len(part))
            part += message.data
            if len(part) > first.size_bytes:
                break
        if len(part) < first.size_bytes or not first.digest:
            raise UploadOffset(f"go on from offset {len(part)}", offset=len(part))
        del self.state.partial[first.digest]
        if len(part) > first.size_bytes or hashlib.sha256(part).hexdigest() != first.digest:
            raise BlobCorrupt("the bytes do not have the digest; upload them again", digest=first.digest)
        self.state.blobs[first.digest] = bytes(part)
        return blob_pb2.UploadBlobResponse(digest=first.digest, size_bytes=len(part))

    def DownloadBlob(self, request: Any, context: Any) -> Iterator[Any]:
        self.state.begin("DownloadBlob", request, context)
        cut = self.state.cut_after("download")
        whole = self.state.blob(request.digest, request.offset)
        self.state.requests.append(request)
        size = max(self.state.chunk_bytes, len(whole) // 1_000)  # small, to be cut anywhere, but no clip takes for ever
        for number, offset in enumerate(range(request.offset, len(whole), size)):
            if number == cut:
                refuse(context, Gone("going down"))
            data = whole[offset : offset + size]
            yield blob_pb2.DownloadBlobResponse(offset=offset, data=data, size_bytes=len(whole))
        if request.offset == len(whole):
            yield blob_pb2.DownloadBlobResponse(offset=request.offset, size_bytes=len(whole))


class Experiments(experiment_pb2_grpc.ExperimentServiceServicer):
    def __init__(self, state: State) -> None:
        self.state = state

    def GetExperiment(self, request: Any, context: Any) -> Any:
        found = self.state.experiment(request.experiment_id)
        return experiment_pb2.GetExperimentResponse(experiment=found)

    def ListExperiments(self, request: Any, context: Any) -> Any:
        found = [one for one in self.state.experiments if request.name in ("", one.name)]
        page, token = listed(request, found, lambda experiment: experiment.experiment_id)
        return experiment_pb2.ListExperimentsResponse(experiments=page, next_page_token=token)


class FakePlane:
    """The server. state: what it knows; address: where it answers."""

    def __init__(self) -> None:
        self.state = State()
        # 16 threads: a sync server holds one for each open stream
        options = [("grpc.so_reuseport", 0)]
        self._server = grpc.server(futures.ThreadPoolExecutor(16), interceptors=[Edge()], options=options)
        datasets = Datasets(self.state)
        run_pb2_grpc.add_RunServiceServicer_to_server(Runs(self.state, datasets), self._server)
        telemetry_pb2_grpc.add_TelemetryServiceServicer_to_server(Telemetry(self.state), self._server)
        blob_pb2_grpc.add_BlobServiceServicer_to_server(Blobs(self.state), self._server)
        adapter_pb2_grpc.add_AdapterServiceServicer_to_server(Adapters(self.state), self._server)
        model_pb2_grpc.add_ModelServiceServicer_to_server(Models(self.state), self._server)
        experiment_pb2_grpc.add_ExperimentServiceServicer_to_server(Experiments(self.state), self._server)
        dataset_pb2_grpc.add_DatasetServiceServicer_to_server(datasets, self._server)
        self.address = f"127.0.0.1:{self._server.add_insecure_port('127.0.0.1:0')}"
        self._server.start()

    def add_run(self, state: str, run_id: str = RUN, *, earlier: Iterable[str] = (), **fields: Any) -> run_pb2.Run:
        """Store a run in a state such as `SUCCEEDED`. earlier: the states that its watches show before, each once."""
        run = run_pb2.Run(run_id=run_id, state=f"RUN_STATE_{state}", **fields)
        epochs = 0 if run.spec.HasField("generate") else 1
        with self.state.changed:
            self.state.earlier[run_id] = [
                run_pb2.Run(run_id=run_id, state=f"RUN_STATE_{before}", total_steps=3, total_epochs=epochs, attempt=1)
                for before in earlier
            ]
            self.state.runs[run_id] = run
            self.state.changed.notify_all()
        return run

    def add_blob(self, data: bytes) -> str:
        """Store bytes; returns their digest."""
        digest = hashlib.sha256(data).hexdigest()
        self.state.blobs[digest] = data
        return digest

    def add_clip(self, run_id: str, prompt: str, data: bytes, *, seed: int = 7, **fields: Any) -> run_pb2.Preview:
        """Store a clip that a run has generated."""
        file = blob_pb2.File(path="clip.wav", digest=self.add_blob(data), size_bytes=len(data))
        clip = run_pb2.Preview(run_id=run_id, prompt=prompt, seed=seed, file=file, **{"attempt": 1, **fields})
        self.state.previews.append(clip)
        return clip

    def add_adapter(self, version: int = 1, name: str = "piano", **files: bytes) -> adapter_pb2.Adapter:
        """Store an adapter with files whose names have `_` for their dot."""
        adapter = adapter_pb2.Adapter(adapter_id=id_of("adp", version), name=name, version=version, base_model="tiny")
        adapter.files.extend(self._files({path.replace("_", "."): data for path, data in files.items()}))
        self.state.adapters.insert(0, adapter)
        return adapter

    def add_model(
        self, version: int = 1, name: str = "tales", files: Mapping[str, bytes] | None = None, **fields: Any
    ) -> model_pb2.Model:
        """Store a language model. files: by path."""
        model = model_pb2.Model(model_id=id_of("mdl", version), name=name, version=version, etag="1", **fields)
        model.files.extend(self._files(files or {"best_model.pt": b"weights"}))
        self.state.models.insert(0, model)
        return model

    def _files(self, files: Mapping[str, bytes]) -> list[blob_pb2.File]:
        return [
            blob_pb2.File(path=path, digest=self.add_blob(data), size_bytes=len(data)) for path, data in files.items()
        ]

    def stop(self) -> None:
        """Go down at once."""
        self._server.stop(0).wait()
