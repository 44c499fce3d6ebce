"""A control plane, as a Python object: one typed stub a service, errors as ApiError, ids by prefix or name elsewhere.

Thread-safe. Nothing is sent before the first call.
"""

from __future__ import annotations

from types import TracebackType

import grpc

from tunesmith.client.calls import CallPolicy
from tunesmith.client.channel import channel_options
from tunesmith.v1 import (
    adapter_pb2_grpc,
    blob_pb2_grpc,
    dataset_pb2_grpc,
    experiment_pb2_grpc,
    model_pb2_grpc,
    node_pb2_grpc,
    run_pb2_grpc,
    server_pb2_grpc,
    telemetry_pb2_grpc,
)

DEFAULT_ADDRESS = "127.0.0.1:7460"


class Client:
    """Connects to the control plane at `address`, `host:port`.

    call_timeout_s: deadline of a unary call that names none. total_timeout_s: nothing of this client lasts longer.
    """

    def __init__(
        self,
        address: str = DEFAULT_ADDRESS,
        *,
        call_timeout_s: float = 30.0,
        total_timeout_s: float | None = None,
    ) -> None:
        self.address = address
        policy = CallPolicy(address, call_timeout_s=call_timeout_s, total_timeout_s=total_timeout_s)
        self._channel = grpc.insecure_channel(address, options=channel_options())
        channel = grpc.intercept_channel(self._channel, policy)
        self.remaining_s = policy.remaining_s
        self.experiments = experiment_pb2_grpc.ExperimentServiceStub(channel)
        self.datasets = dataset_pb2_grpc.DatasetServiceStub(channel)
        self.runs = run_pb2_grpc.RunServiceStub(channel)
        self.adapters = adapter_pb2_grpc.AdapterServiceStub(channel)
        self.models = model_pb2_grpc.ModelServiceStub(channel)
        self.telemetry = telemetry_pb2_grpc.TelemetryServiceStub(channel)
        self.nodes = node_pb2_grpc.NodeServiceStub(channel)
        self.blobs = blob_pb2_grpc.BlobServiceStub(channel)
        self.server = server_pb2_grpc.ServerServiceStub(channel)

    def close(self) -> None:
        """Cut every call that is still open."""
        self._channel.close()

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
