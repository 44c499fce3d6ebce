"""Keep libraries quiet, so that standard error says what a user of this program can act on."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import transformers

_TALKATIVE = r"(transformers|peft|accelerate|torch)\b"


def be_quiet() -> None:
    """transformers' and PEFT's advice is for programmers; for the whole process."""
    transformers.utils.logging.set_verbosity_error()
    warnings.filterwarnings("ignore", category=FutureWarning, module=_TALKATIVE)


@contextmanager
def quietly() -> Iterator[None]:
    """The same while inside, and without the bars that transformers draws."""
    logging = transformers.utils.logging
    verbosity, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", category=FutureWarning, module=_TALKATIVE)
            yield
    finally:
        logging.set_verbosity(verbosity)
        if bars:
            logging.enable_progress_bar()
