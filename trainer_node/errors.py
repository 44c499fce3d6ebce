"""What can go wrong on a trainer node. The class is the reason; the message ends in the next step."""

from __future__ import annotations

from tunesmith.errors import TunesmithError


class BaseModelUnavailable(TunesmithError):
    """The base model could not be found, fetched or read."""

    reason = "BASE_MODEL_UNAVAILABLE"


class OutOfMemory(TunesmithError):
    """Memory ran out, on the device or beside it."""

    reason = "OUT_OF_MEMORY"


class DataInvalid(TunesmithError):
    """The data cannot be trained on."""

    reason = "DATA_INVALID"


class LossNotFinite(TunesmithError):
    """The loss is not a number any more."""

    reason = "LOSS_NOT_FINITE"


class CheckpointCorrupt(TunesmithError):
    """A checkpoint to go on from is not whole."""

    reason = "CHECKPOINT_CORRUPT"


class DiskFull(TunesmithError):
    """There is no room on the disk."""

    reason = "DISK_FULL"


class InputsUnavailable(TunesmithError):
    """The node could not fetch what a job needs."""

    reason = "INPUTS_UNAVAILABLE"


class LeaseLost(TunesmithError):
    """A job of an attempt that is no longer current."""

    reason = "LEASE_LOST"


class NodeFull(TunesmithError):
    """Every slot of the node is taken."""

    reason = "NODE_FULL"


class JobNotFound(TunesmithError):
    """No such job on this node."""

    reason = "JOB_NOT_FOUND"


class TrainingKindUnavailable(TunesmithError):
    """This node does not run that kind of training."""

    reason = "TRAINING_KIND_UNAVAILABLE"


class BlobNotFound(TunesmithError):
    """No such blob on this node."""

    reason = "BLOB_NOT_FOUND"


class BlobCorrupt(TunesmithError):
    """Bytes that do not have the digest they were announced with."""

    reason = "BLOB_CORRUPT"
