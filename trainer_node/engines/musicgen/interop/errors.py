"""What can go wrong in an exchange of models; each message ends in the next step."""

from __future__ import annotations

from tunesmith.errors import TunesmithError


class BaseModelMismatch(TunesmithError):
    """The adapter was trained on another base model than the one at hand."""

    reason = "BASE_MODEL_MISMATCH"


class ExportRefused(TunesmithError):
    """The model has something that the wanted format cannot say."""

    reason = "EXPORT_REFUSED"


class CheckpointRefused(TunesmithError):
    """A checkpoint of audiocraft that cannot be read, or that is no MusicGen model of text to music."""

    reason = "CHECKPOINT_REFUSED"
