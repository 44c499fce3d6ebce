"""How a channel is set up: liveness, reconnection, and which calls gRPC may repeat by itself.

Servers use `channel_options` too, for the channels they open. Repeating is safe for every method named in
`RETRIED_SERVICES`: reads have no side effect, creates carry a request id, and the other writes are idempotent. Streams
are not repeated here: `watch` and `transfer` go on from a token or an offset instead.
"""

from __future__ import annotations

import json

# Without the explicit ping timeout a frozen peer was noticed after 61 s, with it after 3 s (grpcio 1.85). A server must
# allow pings as often: its grpc.http2.min_ping_interval_without_data_ms has to be below this.
KEEPALIVE_TIME_MS = 5_000
PING_TIMEOUT_MS = 3_000

# gRPC's default is 4 MiB, which this version's servers stay below; room for one that does not.
MAX_RESPONSE_BYTES = 16 * 1024 * 1024

RETRIED_SERVICES = (
    "ExperimentService",
    "DatasetService",
    "RunService",
    "AdapterService",
    "ModelService",
    "TelemetryService",
    "NodeService",
    "BlobService",
    "ServerService",
)

# Streams, which have their own way to go on, and the one write whose repetition would answer NOT_FOUND.
NEVER_RETRIED = (
    ("RunService", "WatchRun"),
    ("TelemetryService", "WatchMetrics"),
    ("TelemetryService", "WatchLogs"),
    ("AdapterService", "DownloadAdapter"),
    ("ModelService", "DownloadModel"),
    ("BlobService", "DownloadBlob"),
    ("BlobService", "UploadBlob"),
    ("DatasetService", "DeleteDatasetVersion"),
)


def service_config() -> str:
    """The gRPC service config: UNAVAILABLE is tried 4 times within about 1.5 s."""
    retry = {
        "maxAttempts": 4,
        "initialBackoff": "0.2s",
        "maxBackoff": "2s",
        "backoffMultiplier": 2,
        "retryableStatusCodes": ["UNAVAILABLE"],
    }
    retried = [{"service": f"tunesmith.v1.{service}"} for service in RETRIED_SERVICES]
    never = [{"service": f"tunesmith.v1.{service}", "method": method} for service, method in NEVER_RETRIED]
    return json.dumps({"methodConfig": [{"name": retried, "retryPolicy": retry}, {"name": never}]})


def channel_options() -> list[tuple[str, str | int]]:
    """Options for `grpc.insecure_channel` and its aio twin."""
    return [
        ("grpc.keepalive_time_ms", KEEPALIVE_TIME_MS),
        ("grpc.keepalive_timeout_ms", PING_TIMEOUT_MS),
        ("grpc.http2.ping_timeout_ms", PING_TIMEOUT_MS),
        ("grpc.http2.max_pings_without_data", 0),
        ("grpc.initial_reconnect_backoff_ms", 200),
        ("grpc.min_reconnect_backoff_ms", 2_000),
        ("grpc.max_reconnect_backoff_ms", 2_000),
        ("grpc.max_receive_message_length", MAX_RESPONSE_BYTES),
        ("grpc.enable_retries", 1),
        ("grpc.service_config", service_config()),
        # A stopped reader holds about 100 KiB a stream instead of 4 to 6 MiB; as fast on one machine.
        ("grpc.http2.bdp_probe", 0),
    ]
