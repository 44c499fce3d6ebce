"""What a tokenizer does to text, in figures: its pieces, and how well they cover each language of a corpus."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from trainer_node.engines.tinylm.corpus import Corpus, Part
from trainer_node.engines.tinylm.model_proto import UNK
from trainer_node.engines.tinylm.tokenizer import Tokenizer


@dataclass(frozen=True)
class Piece:
    """A piece of the vocabulary, or of an encoded text. score: log-probability; 0 for bytes and special pieces."""

    id: int
    text: str
    score: float


@dataclass(frozen=True)
class Coverage:
    """How a language comes out. unknown_rate, byte_rate: shares of tokens that are unknown, or single bytes."""

    language: str
    characters: int
    tokens: int
    unknown_rate: float
    byte_rate: float

    @property
    def characters_per_token(self) -> float:
        """Characters, spaces included, for a token; the more, the fewer steps a text takes."""
        return self.characters / max(1, self.tokens)


def pieces(tokenizer: Tokenizer) -> list[Piece]:
    """The whole vocabulary by id, which is by frequency."""
    return [_piece(tokenizer, number) for number in range(tokenizer.vocab_size)]


def encoded(tokenizer: Tokenizer, text: str) -> list[Piece]:
    """A text as pieces."""
    return [_piece(tokenizer, number) for number in tokenizer.encode(text)]


def coverage(tokenizer: Tokenizer, corpus: Corpus) -> list[Coverage]:
    """How each language of a corpus comes out, measured on what was held out, else on the training part."""
    found = []
    for language in corpus.languages:
        part: Part = "validation" if language.validation_paragraphs else "train"
        found.append(coverage_of(tokenizer, language.code, corpus.paragraphs(part, language.code)))
    return found


def coverage_of(tokenizer: Tokenizer, language: str, texts: Iterable[str]) -> Coverage:
    """How these paragraphs come out."""
    byte = np.array([tokenizer.is_byte(number) for number in range(tokenizer.vocab_size)])
    characters = tokens = unknown = single = 0
    held = list(texts)
    for text, ids in zip(held, tokenizer.encode_each(held), strict=True):
        characters, tokens = characters + len(text), tokens + len(ids)
        unknown += int(np.count_nonzero(ids == UNK))
        single += int(np.count_nonzero(byte[ids]))
    return Coverage(language, characters, tokens, unknown / max(1, tokens), single / max(1, tokens))


def _piece(tokenizer: Tokenizer, number: int) -> Piece:
    return Piece(number, tokenizer.piece(number), tokenizer.score(number))
