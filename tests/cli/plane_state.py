"""What the fake control plane knows, and the edge around it: rules of requests, named errors, pages, watches."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, TypeVar

import grpc
from google.protobuf.message import Message

from control_plane.errors import (
    AdapterNotFound,
    BlobNotFound,
    ExperimentNotFound,
    ModelNotFound,
    OffsetOutOfRange,
    RunNotFound,
)
from services.rpc.errors import DETAILS_KEY, answer
from services.rpc.paging import cursor
from services.rpc.watch import HEARTBEAT_S
from tunesmith import spec
from tunesmith.errors import InvalidField, TunesmithError
from tunesmith.v1 import (
    adapter_pb2,
    dataset_pb2,
    experiment_pb2,
    model_pb2,
    run_pb2,
)

M = TypeVar("M", bound=Message)
TERMINAL = (run_pb2.RUN_STATE_SUCCEEDED, run_pb2.RUN_STATE_FAILED, run_pb2.RUN_STATE_CANCELLED)
TIME_US = 1_790_000_000_000_000


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


def require_valid(request: Message) -> None:
    """Raise InvalidField where a request breaks a rule of the contract."""
    if problems := spec.check(request):
        raise InvalidField.of(problems)


class Edge(grpc.ServerInterceptor):
    """Checks requests and names errors, as the edge of the real server does."""

    def intercept_service(self, continuation: Any, details: Any) -> Any:
        handler = continuation(details)
        if handler is None:
            return None
        codec = (handler.request_deserializer, handler.response_serializer)
        if handler.response_streaming:

            def stream(request: Any, context: Any) -> Iterator[Any]:
                with _named(context):
                    require_valid(request)
                    yield from handler.unary_stream(request, context)

            return grpc.unary_stream_rpc_method_handler(stream, *codec)
        if handler.request_streaming:

            def upload(messages: Any, context: Any) -> Any:
                with _named(context):
                    return handler.stream_unary(messages, context)

            return grpc.stream_unary_rpc_method_handler(upload, *codec)

        def call(request: Any, context: Any) -> Any:
            with _named(context):
                require_valid(request)
                return handler.unary_unary(request, context)

        return grpc.unary_unary_rpc_method_handler(call, *codec)


@contextmanager
def _named(context: grpc.ServicerContext) -> Iterator[None]:
    try:
        yield
    except TunesmithError as error:
        refuse(context, error)


@dataclass
class State:
    """What the fake knows. Log lines, losses and previews that name no run are those of every run.

    metric: what the numbers in `losses` are of. earlier: states of a run that its watches show first, each once. cuts:
    for each stream by name, after how many frames each of its first calls is cut. before: called with request and
    context at the beginning of a method, by its name. samples, comparisons: of each data set by id. refused: what is
    wrong with clips, by digest. evaluated: what was stored for each request id. changed: to be notified when a run has
    changed.
    """

    runs: dict[str, run_pb2.Run] = field(default_factory=dict)
    earlier: dict[str, list[run_pb2.Run]] = field(default_factory=dict)
    experiments: list[experiment_pb2.Experiment] = field(default_factory=list)
    datasets: list[dataset_pb2.Dataset] = field(default_factory=list)
    samples: dict[str, list[dataset_pb2.Sample]] = field(default_factory=dict)
    comparisons: dict[str, list[dataset_pb2.Comparison]] = field(default_factory=dict)
    versions: list[dataset_pb2.DatasetVersion] = field(default_factory=list)
    refused: dict[str, str] = field(default_factory=dict)
    adapters: list[adapter_pb2.Adapter] = field(default_factory=list)
    evaluations: list[adapter_pb2.AdapterEvaluation] = field(default_factory=list)
    evaluated: dict[str, adapter_pb2.AdapterEvaluation] = field(default_factory=dict)
    models: list[model_pb2.Model] = field(default_factory=list)
    previews: list[run_pb2.Preview] = field(default_factory=list)
    blobs: dict[str, bytes] = field(default_factory=dict)
    chunk_bytes: int = 4  # of a download
    partial: dict[str, bytearray] = field(default_factory=dict)
    log_lines: list[str] = field(default_factory=list)
    losses: list[float] = field(default_factory=list)
    metric: str = "loss"
    cuts: dict[str, list[int]] = field(default_factory=dict)
    failure: TunesmithError | None = None
    before: dict[str, Callable[[Any, Any], None]] = field(default_factory=dict)
    requests: list[Any] = field(default_factory=list)
    created: dict[str, run_pb2.Run] = field(default_factory=dict)
    tokens: list[str] = field(default_factory=list)
    changed: threading.Condition = field(default_factory=threading.Condition)

    def cut_after(self, stream: str) -> int:
        """After how many frames this call of a stream is cut; a huge number where it is not."""
        return self.cuts[stream].pop(0) if self.cuts.get(stream) else 1 << 30

    def begin(self, method: str, request: Any, context: Any) -> None:
        """What a test wants to happen first."""
        if method in self.before:
            self.before[method](request, context)

    def run(self, run_id: str) -> run_pb2.Run:
        """A run. Raises RunNotFound."""
        if run_id not in self.runs:
            raise RunNotFound(f"there is no run {run_id}; see ListRuns")
        return self.runs[run_id]

    def experiment(self, experiment_id: str) -> experiment_pb2.Experiment:
        """An experiment. Raises ExperimentNotFound."""
        found = [one for one in self.experiments if one.experiment_id == experiment_id]
        if not found:
            raise ExperimentNotFound(f"there is no experiment {experiment_id}; see ListExperiments")
        return found[0]

    def adapter(self, adapter_id: str) -> adapter_pb2.Adapter:
        """An adapter. Raises AdapterNotFound."""
        found = [one for one in self.adapters if one.adapter_id == adapter_id]
        if not found:
            raise AdapterNotFound(f"there is no adapter {adapter_id}; see ListAdapters")
        return found[0]

    def model(self, model_id: str) -> model_pb2.Model:
        """A language model. Raises ModelNotFound."""
        found = [one for one in self.models if one.model_id == model_id]
        if not found:
            raise ModelNotFound(f"there is no model {model_id}; see ListModels")
        return found[0]

    def blob(self, digest: str, offset: int) -> bytes:
        """A blob that has an offset. Raises BlobNotFound, OffsetOutOfRange."""
        if digest not in self.blobs:
            raise BlobNotFound(f"there is no blob {digest}; upload it with UploadBlob")
        if offset > len(self.blobs[digest]):
            raise OffsetOutOfRange(f"the blob has {len(self.blobs[digest])} bytes")
        return self.blobs[digest]


def listed(request: Any, records: Iterable[M], key: Callable[[M], str]) -> tuple[list[M], str]:
    """The page that a List request asks for, newest first, and the token of the next one."""
    page = cursor(request)
    prefix = getattr(request, "id_prefix", "")  # evaluations are not found by their ids
    newest = sorted((one for one in records if key(one).startswith(prefix)), key=key, reverse=True)
    rest = [one for one in newest if page.after is None or key(one) < page.after]
    return page.cut(rest[: page.limit], lambda one: one, key)


def watched(
    state: State, run_id: str, context: grpc.ServicerContext, read: Callable[[], M | None]
) -> Iterator[M | None]:
    """What `read` gives, until the run has ended and it gives None; None where there is nothing at first, or long."""
    silent_s = 0.0

    def wake() -> None:
        with state.changed:
            state.changed.notify_all()

    context.add_callback(wake)
    while context.is_active():
        with state.changed:
            done = state.run(run_id).state in TERMINAL
            found = read()
            if found is None and not done and silent_s and state.changed.wait(silent_s):
                continue
        if found is None and done:
            return
        yield found
        silent_s = HEARTBEAT_S
