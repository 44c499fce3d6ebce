"""What the registry refuses, as types. A class carries its reason of error_reason.proto; the edge chooses the code."""

from __future__ import annotations

from typing import ClassVar

from tunesmith.errors import TunesmithError


class CannotStart(Exception):
    """The control plane cannot start; the message says why and what to do. Never a reason of the API."""

    exit_code: ClassVar[int] = 9


class DataFolderInUse(CannotStart):
    """Another process owns the data folder of the embedded server."""


class EmbeddedUnavailable(CannotStart):
    """The embedded server cannot be run here: no binaries, no right, or a folder of another version."""


class DatabaseTooNew(CannotStart):
    """The database was written by a newer program."""


class DatabaseTooOld(CannotStart):
    """The server is older than the oldest one supported."""


class DatabaseUnsuitable(CannotStart):
    """The database answers and cannot be used as it is set up: read-only, not UTF-8, or not this role's to write to."""


class DatabaseUnreachable(CannotStart):
    """The server that the DSN names did not answer."""


class ExperimentNotFound(TunesmithError):
    """No such experiment."""

    reason = "EXPERIMENT_NOT_FOUND"


class DatasetNotFound(TunesmithError):
    """No such data set."""

    reason = "DATASET_NOT_FOUND"


class DatasetVersionNotFound(TunesmithError):
    """No such data set version."""

    reason = "DATASET_VERSION_NOT_FOUND"


class RunNotFound(TunesmithError):
    """No such run."""

    reason = "RUN_NOT_FOUND"


class AdapterNotFound(TunesmithError):
    """No such adapter."""

    reason = "ADAPTER_NOT_FOUND"


class ModelNotFound(TunesmithError):
    """No such model."""

    reason = "MODEL_NOT_FOUND"


class NodeNotFound(TunesmithError):
    """No such node."""

    reason = "NODE_NOT_FOUND"


class BlobNotFound(TunesmithError):
    """No such blob."""

    reason = "BLOB_NOT_FOUND"


class BlobCorrupt(TunesmithError):
    """Bytes do not have the digest that was announced."""

    reason = "BLOB_CORRUPT"


class UploadOffset(TunesmithError):
    """An upload does not go on where it stopped."""

    reason = "UPLOAD_OFFSET"


class OffsetOutOfRange(TunesmithError):
    """A read begins past the end of the blob."""

    reason = "OFFSET_OUT_OF_RANGE"


class DiskFull(TunesmithError):
    """There is no room for a blob."""

    reason = "DISK_FULL"


class CheckpointNotFound(TunesmithError):
    """The run has no checkpoint to go on from."""

    reason = "CHECKPOINT_NOT_FOUND"


class NameTaken(TunesmithError):
    """The name belongs to another one."""

    reason = "NAME_TAKEN"


class EtagMismatch(TunesmithError):
    """It was changed since the etag was read."""

    reason = "ETAG_MISMATCH"


class RequestIdReused(TunesmithError):
    """The request id was used before with another body."""

    reason = "REQUEST_ID_REUSED"


class RunFinished(TunesmithError):
    """The run has already ended, so it cannot be cancelled."""

    reason = "RUN_FINISHED"


class RunNotResumable(TunesmithError):
    """Only failed and cancelled trainings can be resumed."""

    reason = "RUN_NOT_RESUMABLE"


class ReportNotReady(TunesmithError):
    """The run has no report (yet)."""

    reason = "REPORT_NOT_READY"


class DatasetVersionInUse(TunesmithError):
    """Runs or adapters use the version, so it stays."""

    reason = "DATASET_VERSION_IN_USE"


class DatasetEmpty(TunesmithError):
    """No sample passes the filter, or no pair or list follows."""

    reason = "DATASET_EMPTY"


class DatasetVersionUnsuitable(TunesmithError):
    """The version holds something else than the training takes."""

    reason = "DATASET_VERSION_UNSUITABLE"


class SampleInvalid(TunesmithError):
    """Samples were refused; `fields` names each row."""

    reason = "SAMPLE_INVALID"


class ComparisonInvalid(TunesmithError):
    """Comparisons were refused; `fields` names each clip."""

    reason = "COMPARISON_INVALID"


class StartAdapterUnsuitable(TunesmithError):
    """The adapter to start from cannot be gone on with."""

    reason = "START_ADAPTER_UNSUITABLE"


class TrainingKindUnavailable(TunesmithError):
    """No node runs this kind of training."""

    reason = "TRAINING_KIND_UNAVAILABLE"


class LeaseLost(TunesmithError):
    """The attempt is no longer the current one; what it writes is refused."""

    reason = "LEASE_LOST"


class NodeUnreachable(TunesmithError):
    """A node did not answer a call in time. Says nothing about its jobs."""

    reason = "UNAVAILABLE"


class NodeRefused(TunesmithError):
    """A node answered a call with an error; `given_reason` is its reason of error_reason.proto."""

    reason = "UNAVAILABLE"

    def __init__(self, message: str, *, given_reason: str) -> None:
        super().__init__(message, given_reason=given_reason)
        self.given_reason = given_reason
