"""What can go wrong on a trainer node: the class is the reason, the message ends in the next step.

The first group ends a training: its reason and message become the `JobFailed` of the job's last event. The second
group answers a call.
"""

from __future__ import annotations

from tunesmith.errors import TunesmithError


class BaseModelUnavailable(TunesmithError):
    """The base model could not be found, downloaded or read."""

    reason = "BASE_MODEL_UNAVAILABLE"


class OutOfMemory(TunesmithError):
    """Memory ran out, on the device or on the host; the message names a computed remedy."""

    reason = "OUT_OF_MEMORY"


class DataInvalid(TunesmithError):
    """The data set, or a clip of it, cannot be trained on."""

    reason = "DATA_INVALID"


class StartAdapterUnsuitable(TunesmithError):
    """The adapter to start from cannot be gone on with on this base model."""

    reason = "START_ADAPTER_UNSUITABLE"


class LossNotFinite(TunesmithError):
    """The loss became NaN or infinite."""

    reason = "LOSS_NOT_FINITE"


class CheckpointCorrupt(TunesmithError):
    """None of the checkpoints that training could go on from is whole."""

    reason = "CHECKPOINT_CORRUPT"


class InputsUnavailable(TunesmithError):
    """The data or the checkpoint that a job needs could not be fetched from the control plane."""

    reason = "INPUTS_UNAVAILABLE"


class DiskFull(TunesmithError):
    """There is no room for what has to be written."""

    reason = "DISK_FULL"


class TrainingCrashed(TunesmithError):
    """The training code failed in a way that nobody foresaw."""

    reason = "TRAINING_CRASHED"


class ProcessDied(TunesmithError):
    """The training process ended without a word."""

    reason = "PROCESS_DIED"


class LeaseLost(TunesmithError):
    """The attempt is not the run's current one any more."""

    reason = "LEASE_LOST"


class NodeFull(TunesmithError):
    """Every slot of the node is taken."""

    reason = "NODE_FULL"


class JobNotFound(TunesmithError):
    """The node has no such job; it may have been forgotten after it ended."""

    reason = "JOB_NOT_FOUND"


class TrainingKindUnavailable(TunesmithError):
    """The node does not run this kind of training."""

    reason = "TRAINING_KIND_UNAVAILABLE"


class BlobNotFound(TunesmithError):
    """The blob is not stored here."""

    reason = "BLOB_NOT_FOUND"


class BlobCorrupt(TunesmithError):
    """Bytes do not have the digest or the length that was announced."""

    reason = "BLOB_CORRUPT"


class OffsetOutOfRange(TunesmithError):
    """A position past the end was asked for."""

    reason = "OFFSET_OUT_OF_RANGE"
