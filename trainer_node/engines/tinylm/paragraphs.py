"""Text to clean paragraphs, one after the other, in bounded memory whatever the length of a line.

A paragraph is a line; or, in a file that is wrapped at a column with blank lines between paragraphs, what stands
between two blank lines. SentencePiece drops sentences above 4,192 bytes in silence, so longer paragraphs are cut: at
the end of a sentence, else at a space, else between two characters.
"""

from __future__ import annotations

import itertools
import re
import unicodedata
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from trainer_node.engines.tinylm import decoding, gutenberg
from trainer_node.engines.tinylm.text_files import TextFile

LONGEST_BYTES = 4_000
_WRAP_COLUMNS = 100
_HELD_CHARACTERS = 1 << 16  # of a line that does not end, before a part of it is passed on
_SENTENCE_END = re.compile(r"[.!?…。！？]+[\"'»”’)\]]*\s+")
_ENDS_SENTENCE = re.compile(r"[.!?…:;。！？][\"'»”’)\]]*$")
_SPACES = re.compile(r"\s+")
_DROPPED = re.compile("[\x00-\x08\x0e-\x1b\x7f-\x84\x86-\x9f\ufeff]")
# SentencePiece writes a space as U+2581 and would read this one back as a space.
_LOOKS_LIKE_SPACE = str.maketrans({"\u2581": "_"})


@dataclass
class Tally:
    """What reading a file came to. paragraphs_cut: those that were too long for one."""

    paragraphs: int = 0
    size_bytes: int = 0
    paragraphs_cut: int = 0
    wrapped: bool = False
    stripped: bool = False


def clean(text: str) -> str:
    """The text in NFC, each run of white space as one space, none at the ends, and without control characters."""
    composed = unicodedata.normalize("NFC", _DROPPED.sub("", text.translate(_LOOKS_LIKE_SPACE)))
    return _SPACES.sub(" ", composed).strip()


def read(file: TextFile, tally: Tally, *, encoding: str = "utf-8") -> Iterator[str]:
    """The paragraphs of a file: clean, not empty, at most `LONGEST_BYTES` of UTF-8. Counts them in `tally`.

    Raises CorpusInvalid where it is not text.
    """
    chunks = decoding.chunks(file, encoding=encoding)
    head = next(chunks, "")
    tally.wrapped, tally.stripped = is_wrapped(head), gutenberg.begins_in(head)
    lines = _lines(itertools.chain([head], chunks))
    if tally.stripped:
        lines = gutenberg.body(lines)
    for long in _joined(lines) if tally.wrapped else lines:
        whole = clean(gutenberg.plain(clean(long)) if tally.stripped else long)
        parts = list(cut(whole)) if whole else []
        tally.paragraphs_cut += len(parts) > 1 or len(long) >= _HELD_CHARACTERS
        for part in parts:
            tally.paragraphs, tally.size_bytes = tally.paragraphs + 1, tally.size_bytes + len(part.encode()) + 1
            yield part


def is_wrapped(head: str) -> bool:
    """Whether a text that begins so is wrapped: blank lines, no long ones, and most inner lines end amid a sentence."""
    lines = [line.strip() for line in head.split("\n")]
    inner = [first for first, second in itertools.pairwise(lines) if first and second]
    filled = sum(map(bool, lines))
    if not inner or not any(not line for line in lines[:-1]):
        return False
    long = sum(len(line) > _WRAP_COLUMNS for line in lines)
    open_ended = sum(not _ENDS_SENTENCE.search(line) for line in inner)
    return long <= 0.05 * filled and open_ended >= 0.5 * len(inner) and len(inner) >= 0.2 * filled


def cut(paragraph: str) -> Iterator[str]:
    """The paragraph in parts of at most `LONGEST_BYTES` of UTF-8, of which none is empty."""
    start = 0
    while start < len(paragraph):
        head = paragraph[start : start + LONGEST_BYTES].encode()[:LONGEST_BYTES].decode("utf-8", "ignore")
        if start + len(head) < len(paragraph):
            head = head[: _place_to_cut(head, paragraph[start + len(head)])]
        start += len(head)
        if part := head.strip():
            yield part


def _place_to_cut(head: str, after: str) -> int:
    """Where to end a part that may not be longer than `head`; `after` is the character that follows it."""
    ends = [found.end() for found in _SENTENCE_END.finditer(head + after, len(head) // 2)]
    place = min(ends[-1] if ends else (head + after).rfind(" ") + 1, len(head))
    if place:
        return place
    place, following = len(head), after
    while place > len(head) // 2 and (unicodedata.combining(following) or "\u200d" in (following, head[place - 1])):
        place, following = place - 1, head[place - 1]
    return place


def _lines(chunks: Iterable[str]) -> Iterator[str]:
    """The lines; one that is very long in parts, which end at a space where there is one."""
    held = ""
    for chunk in chunks:
        *whole, held = (held + chunk).split("\n")
        for line in whole:
            yield from _parts(line)
        if len(held) > 2 * _HELD_CHARACTERS:
            *parts, held = _parts(held)
            yield from parts
    yield from _parts(held)


def _parts(line: str) -> Iterator[str]:
    start = 0
    while len(line) - start > _HELD_CHARACTERS:
        stop = _part_end(line, start)
        yield line[start:stop]
        start = stop
    yield line[start:]


def _part_end(line: str, start: int) -> int:
    limit = start + _HELD_CHARACTERS
    ends = [found.end() for found in _SENTENCE_END.finditer(line, limit - LONGEST_BYTES, limit)]
    return ends[-1] if ends else line.rfind(" ", start + 1, limit) + 1 or limit


def _joined(lines: Iterator[str]) -> Iterator[str]:
    """What stands between blank lines, as one line."""
    block: list[str] = []
    size = 0
    for line in lines:
        if line.strip():
            block.append(line)
            size += len(line)
        if block and (not line.strip() or size > _HELD_CHARACTERS):
            yield " ".join(block)
            block, size = [], 0
    if block:
        yield " ".join(block)
