"""Commands that train on this machine need the packages of the extra `train`."""

from __future__ import annotations

import importlib.util

from tunesmith.errors import TunesmithError


class NotInstalled(TunesmithError):
    """Packages are missing that this command needs."""

    reason = "NOT_INSTALLED"


def require_train_extra() -> None:
    """Refuse in a sentence where PyTorch and its family are not installed."""
    missing = [name for name in ("torch", "transformers", "peft", "soundfile") if not importlib.util.find_spec(name)]
    if missing:
        raise NotInstalled(f"{', '.join(missing)} not installed; install them with: pip install 'tunesmith[train]'")
