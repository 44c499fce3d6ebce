"""Keep libraries quiet, so that standard error says what a user of this program can act on."""

from __future__ import annotations

import warnings

import transformers


def be_quiet() -> None:
    """transformers' and PEFT's advice is for programmers; for the whole process."""
    transformers.utils.logging.set_verbosity_error()
    warnings.filterwarnings("ignore", category=FutureWarning, module=r"(transformers|peft|accelerate|torch)\b")
