"""Generated clips as sound: what a listener or a scorer of this machine hears."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import soundfile
from numpy.typing import NDArray

from tunesmith.client.transfer import download_blob
from tunesmith.errors import TunesmithError

if TYPE_CHECKING:
    from tunesmith.client.client import Client


class ClipUnusable(TunesmithError):
    """A clip that a run should have played is not there, or is no sound."""

    reason = "CLIP_UNUSABLE"


def read_wave(client: Client, digest: str, *, what: str) -> tuple[NDArray[np.float32], int]:
    """A clip as [N] samples of one channel, the mean of what it has, and its rate in Hz.

    what: the clip in words, for errors. Raises ClipUnusable where it is no sound.
    """
    with tempfile.TemporaryDirectory(prefix="tunesmith-") as folder:
        path = download_blob(client, digest, Path(folder) / "clip.wav")
        try:
            sound_NC, rate_hz = soundfile.read(path, dtype="float32", always_2d=True)
        except soundfile.SoundFileError as error:
            advice = "leave its run out, or generate its clips again"
            raise ClipUnusable(f"{what} is no sound ({error}); {advice}") from error
    return sound_NC.mean(axis=1), rate_hz
