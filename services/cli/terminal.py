"""What a terminal is told: nothing that a server's text could steer it with, and colour only where it is wanted."""

from __future__ import annotations

import os
import re
from typing import TextIO

# C0 and C1 controls, DEL, and the characters that reorder what is read (bidi) or hide in it (zero width).
_UNSAFE = re.compile("[\x00-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff]")


def escape(text: str, *, keep: str = "") -> str:
    """`text` with control characters written out, such as `\\x1b`; those in `keep` stay (say, line ends)."""
    return _UNSAFE.sub(lambda match: match[0] if match[0] in keep else _written(match[0]), text)


def _written(character: str) -> str:
    known = {"\n": "\\n", "\t": "\\t", "\r": "\\r"}
    number = ord(character)
    return known.get(character) or (f"\\x{number:02x}" if number < 0x100 else f"\\u{number:04x}")


def is_interactive(stream: TextIO) -> bool:
    """Whether a person looks at `stream` on a terminal that can draw."""
    return stream.isatty() and os.environ.get("TERM") != "dumb"


def wants_color(stream: TextIO, choice: str) -> bool:
    """Whether to colour. choice: `always`, `never`, or `auto`, which follows the terminal and NO_COLOR."""
    if choice == "auto":
        return is_interactive(stream) and not os.environ.get("NO_COLOR")
    return choice == "always"
