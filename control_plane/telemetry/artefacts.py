"""What a successful training left, read from its files. They were written by another machine: size, shape and text are
checked, and a training whose result cannot be read has failed, with a sentence that says what was wrong.
"""

from __future__ import annotations

import json
from typing import Any, TypeVar

from google.protobuf import json_format
from google.protobuf.message import Message

from control_plane.db.connection import storable
from control_plane.errors import BlobCorrupt, BlobNotFound
from control_plane.ports import Blobs
from control_plane.runs.model import Artefacts, Leaves
from control_plane.runs.registration import left_by
from tunesmith import spec
from tunesmith.v1 import job_event_pb2

MAX_CONFIG_BYTES = 1024 * 1024
MAX_REPORT_BYTES = 8 * 1024 * 1024  # two curves of some thousand points are 100 KB
MAX_MARKDOWN_BYTES = 1024 * 1024
MAX_FAILURE_CHARACTERS = 8 * 1024

M = TypeVar("M", bound=Message)


async def read_ending(
    blobs: Blobs, finished: job_event_pb2.JobFinished
) -> tuple[job_event_pb2.JobFinished, Artefacts | None]:
    """The end of a job as it is to be stored, with what it left where it succeeded; nothing is read for clips.

    A success whose files are not stored here or cannot be read becomes a failure.
    """
    match finished.WhichOneof("outcome"):
        case "succeeded":
            try:
                problems = spec.check(finished)
                if problems:
                    raise _Unreadable(f"its result breaks the contract: {storable(str(problems[0]))}")
                return finished, await _artefacts(blobs, finished.succeeded)
            except (BlobNotFound, BlobCorrupt, _Unreadable) as error:
                reason = error.reason if isinstance(error, BlobNotFound | BlobCorrupt) else "TRAINING_CRASHED"
                return failure(reason, f"the training ended well, but {error}; resume the run"), None
        case "failed":
            return _storable_failure(finished.failed), None
        case "cancelled":
            return finished, None
        case _:
            return failure("TRAINING_CRASHED", "the node told no outcome of the training; resume the run"), None


def failure(reason: str, message: str) -> job_event_pb2.JobFinished:
    """The end of a job that failed for `reason`, a name of error_reason.proto."""
    return job_event_pb2.JobFinished(failed=job_event_pb2.JobFailed(reason=reason, message=message))


def _storable_failure(failed: job_event_pb2.JobFailed) -> job_event_pb2.JobFinished:
    kept = job_event_pb2.JobFailed(
        reason=storable(failed.reason)[:100] or "TRAINING_CRASHED",
        message=storable(failed.message)[:MAX_FAILURE_CHARACTERS],
        exit_code=failed.exit_code,
        stderr_tail=storable(failed.stderr_tail)[-MAX_FAILURE_CHARACTERS:],
    )
    return job_event_pb2.JobFinished(failed=kept)


class _Unreadable(Exception):
    """A file of the result is not what its name says."""


async def _artefacts(blobs: Blobs, succeeded: job_event_pb2.JobSucceeded) -> Artefacts | None:
    """What the files say; None for clips, which have no files of their result."""
    match left_by(succeeded):
        case [Leaves.CLIPS]:
            return None
        case [made]:
            pass
        case several:
            raise _Unreadable(f"it left {' and '.join(several) or 'nothing'}")
    missing = await blobs.missing([file.digest for file in (*succeeded.adapter_files, *succeeded.model_files)])
    if missing:
        raise BlobNotFound(f"its node does not have {len(missing)} of the {made}'s files", digest=missing[0])
    config = await blobs.get_bytes(succeeded.training_config.digest, MAX_CONFIG_BYTES)
    report = await blobs.get_bytes(succeeded.report_json.digest, MAX_REPORT_BYTES)
    markdown = await blobs.get_bytes(succeeded.report_markdown.digest, MAX_MARKDOWN_BYTES)
    return Artefacts(
        training_config=_parse(config, job_event_pb2.TrainingConfig(), "training_config.json"),
        report=_parse(report, job_event_pb2.TrainingReport(), "report.json"),
        report_markdown=storable(markdown.decode(errors="replace")),
    )


def _parse(data: bytes, message: M, name: str) -> M:
    """The message in a file of proto JSON. Fields of a newer node are left out."""
    try:
        return json_format.ParseDict(_storable_json(json.loads(data)), message, ignore_unknown_fields=True)
    except (ValueError, RecursionError, json_format.ParseError) as error:
        raise _Unreadable(f"its {name} cannot be read ({type(error).__name__})") from error


def _storable_json(value: Any) -> Any:
    match value:
        case str():
            return storable(value)
        case list():
            return [_storable_json(item) for item in value]
        case dict():
            return {storable(key): _storable_json(item) for key, item in value.items()}
        case _:
            return value
