"""ServerService: what is being talked to."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from importlib import metadata

from services.convert.times import timestamp
from services.rpc.calls import Context
from services.rpc.paging import MAX_PAGE_SIZE
from services.rpc.reading import MAX_MESSAGE_BYTES
from tunesmith.v1 import server_pb2, server_pb2_grpc

MAX_BLOB_BYTES = 8 * 1024**3  # as the rule at UploadBlobRequest.size_bytes
MAX_CLIP_S = 600.0  # longer audio is refused when it is inspected


@dataclass(frozen=True, kw_only=True)
class ServerFacts:
    """What does not change while the process runs. database: `embedded` or `external`."""

    database: str
    schema_version: str


class ServerService(server_pb2_grpc.ServerServiceServicer):
    """Tells version and limits."""

    def __init__(self, facts: ServerFacts) -> None:
        self._info = server_pb2.GetServerInfoResponse(
            version=metadata.version("tunesmith"),
            database=facts.database,
            schema_version=facts.schema_version,
            max_message_bytes=MAX_MESSAGE_BYTES,
            max_page_size=MAX_PAGE_SIZE,
            max_blob_bytes=MAX_BLOB_BYTES,
            max_clip_s=MAX_CLIP_S,
            start_time=timestamp(datetime.now(UTC)),
        )

    async def GetServerInfo(
        self, request: server_pb2.GetServerInfoRequest, context: Context
    ) -> server_pb2.GetServerInfoResponse:
        """Answer without asking anyone."""
        return self._info
