"""What can go wrong between text and a trained language model; each message ends in the next step."""

from __future__ import annotations

from trainer_node.errors import DataInvalid, InputsUnavailable
from tunesmith.errors import TunesmithError


class CorpusInvalid(DataInvalid):
    """The text cannot be trained on as it is."""


class VocabularyTooLarge(CorpusInvalid):
    """The corpus does not hold as many pieces as were asked for; `largest` is what it holds."""

    def __init__(self, message: str, *, largest: int) -> None:
        super().__init__(message, largest=largest)
        self.largest = largest


class VocabularyTooSmall(CorpusInvalid):
    """The vocabulary has no room for the characters of the corpus; `smallest` is what they need."""

    def __init__(self, message: str, *, smallest: int) -> None:
        super().__init__(message, smallest=smallest)
        self.smallest = smallest


class TokenizerInvalid(TunesmithError):
    """The tokenizer's files are not whole, or are none."""

    reason = "DATA_INVALID"


class SourcesUnavailable(InputsUnavailable):
    """The default works could not be downloaded."""
