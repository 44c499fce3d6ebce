"""Commands that train on this machine need the packages of the extra `train`."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence

from tunesmith.errors import TunesmithError

NEEDED = ("torch", "transformers", "peft", "trl", "datasets", "soundfile")

NEEDED_FOR_TEXT = ("torch", "safetensors", "sentencepiece")


class NotInstalled(TunesmithError):
    """Packages are missing that this command needs."""

    reason = "NOT_INSTALLED"


def require_train_extra(needed: Sequence[str] = NEEDED) -> None:
    """Refuse in a sentence where PyTorch and its family, or what else is needed, are not installed."""
    missing = [name for name in needed if not importlib.util.find_spec(name)]
    if missing:
        raise NotInstalled(f"{', '.join(missing)} not installed; install them with: pip install 'tunesmith[train]'")
