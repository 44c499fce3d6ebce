"""What Project Gutenberg adds to a work: licence header and footer, credits, marks of pictures and italics.

Files of theirs are told by the line that begins the work, so one that people downloaded themselves is stripped as well.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

_START = re.compile(r"\*\*\* ?START OF (?:THE|THIS) PROJECT GUTENBERG EBOOK\b", re.IGNORECASE)
_END = re.compile(r"\*\*\* ?END OF (?:THE|THIS) PROJECT GUTENBERG EBOOK\b", re.IGNORECASE)
_FOOTER = re.compile(r"End of (?:the )?Project Gutenberg\W?s? ", re.IGNORECASE)
_ADDED = re.compile(r"(?:Produced by|E-text prepared by|Transcribed |Transcriber\W?s? Note|\[Illustration\b)", re.I)
_PICTURE = re.compile(r"\s*\[Illustration[^\]]*\]")
_ITALICS = re.compile(r"_+")


def begins_in(head: str) -> bool:
    """Whether a file that begins so is one of Project Gutenberg's."""
    return bool(_START.search(head))


def body(lines: Iterator[str]) -> Iterator[str]:
    """The lines between header and footer."""
    for line in lines:
        if _START.match(line.lstrip()):
            break
    for line in lines:
        if _END.match(line.lstrip()) or _FOOTER.match(line.lstrip()):
            return
        yield line


def plain(paragraph: str) -> str:
    """The paragraph without marks of italics and pictures; empty where it was added to the work, or is an ornament."""
    if _ADDED.match(paragraph) or not any(map(str.isalnum, paragraph)):
        return ""
    return _ITALICS.sub("", _PICTURE.sub("", paragraph)).strip()
