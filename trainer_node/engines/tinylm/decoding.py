"""Bytes to text, in pieces of bounded size, refusing in one sentence what is not UTF-8 text.

SentencePiece trains on anything without complaint (binary files, Latin-1, NULs) and gives a vocabulary of garbage; so
whatever is wrong is found here, with its place and with the command that mends it.
"""

from __future__ import annotations

import codecs
import io
import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import NoReturn

from trainer_node.engines.tinylm.errors import CorpusInvalid
from trainer_node.engines.tinylm.text_files import TextFile, unreadable

CHUNK_BYTES = 1 << 20
MOST_CONTROLS = 0.005  # share of control characters above which a file is no text
_MOSTLY_BINARY = 0.02  # the same of a file with a NUL or of another encoding: dirt in a text is told by its place
_CONTROLS = bytes([*range(9), 11, *range(14, 32), 127])  # not tab, newline, form feed, carriage return
_BOMS = (  # UTF-32 first: its mark begins with that of UTF-16
    (codecs.BOM_UTF32_LE, "UTF-32"), (codecs.BOM_UTF32_BE, "UTF-32"),
    (codecs.BOM_UTF16_LE, "UTF-16"), (codecs.BOM_UTF16_BE, "UTF-16"),
)  # fmt: skip
_FORMATS = (
    (b"%PDF-", "a PDF; take its text out first: pdftotext {old} {new}"),
    (b"PK\x03\x04", "a zip archive or an office document; save its text as .txt"),
    (b"\x1f\x8b", "compressed; unpack it first: gunzip -c {old} > {new}"),
    (b"BZh", "compressed; unpack it first: bunzip2 -c {old} > {new}"),
    (b"\xfd7zXZ\x00", "compressed; unpack it first: xz -dc {old} > {new}"),
    (b"{\\rtf", "rich text; save it as plain text"),
)
_NEITHER_LATIN = frozenset(b"\x81\x8d\x8f\x90\x9d")  # Windows-1252 gives these no meaning
_ESCAPED = re.compile("[\udc80-\udcff]")
_BEYOND_ASCII = re.compile("[^\x00-\x7f\udc80-\udcff]")


def chunks(file: TextFile, *, encoding: str = "utf-8") -> Iterator[str]:
    """The file's text, newlines as `\\n`, at most a mebibyte at once. Raises CorpusInvalid, see the module."""
    decoder = io.IncrementalNewlineDecoder(codecs.getincrementaldecoder(encoding)(), translate=True)
    read = lines = controls = 0
    for chunk in _blocks(file):
        encoded = chunk
        if not read:
            _require_text(file, chunk)
            encoded = chunk.removeprefix(codecs.BOM_UTF8) if encoding == "utf-8" else chunk
        if (nul := chunk.find(0)) >= 0:
            _refuse_nul(file, chunk, read + nul, lines + chunk.count(b"\n", 0, nul) + 1)
        controls += _controls_in(chunk)
        try:
            text = decoder.decode(encoded)
        except UnicodeDecodeError as error:
            _refuse_bytes(file, encoding, error)
        read, lines = read + len(chunk), lines + chunk.count(b"\n")
        if controls > MOST_CONTROLS * read and controls > 8:
            _refuse_binary(file)
        yield text
    try:
        yield decoder.decode(b"", final=True)
    except UnicodeDecodeError as error:
        _refuse_bytes(file, encoding, error)


def _blocks(file: TextFile) -> Iterator[bytes]:
    try:
        with file.path.open("rb") as opened:
            while block := opened.read(CHUNK_BYTES):
                yield block
    except OSError as error:
        raise unreadable(file.path, error) from error


def _require_text(file: TextFile, head: bytes) -> None:
    for mark, encoding in _BOMS:
        if head.startswith(mark):
            raise CorpusInvalid(f"{file.name} is {encoding}; the corpus must be UTF-8: {_iconv(file, encoding)}")
    for magic, what in _FORMATS:
        if head.startswith(magic):
            raise CorpusInvalid(f"{file.name} is {what.format(old=_quoted(file.path), new=_quoted(_mended(file)))}")


def _refuse_nul(file: TextFile, chunk: bytes, offset: int, line: int) -> NoReturn:
    """A NUL is UTF-16 without its mark, a binary file, or dirt in a text."""
    sample = chunk[: 1 << 16]
    even, odd, half = sample[::2].count(0), sample[1::2].count(0), max(1, len(sample) // 2)
    if max(even, odd) > 0.4 * half and min(even, odd) < 0.1 * half:
        encoding = "UTF-16LE" if odd > even else "UTF-16BE"
        raise CorpusInvalid(
            f"{file.name} looks like {encoding} without a byte order mark; the corpus must be UTF-8: "
            f"{_iconv(file, encoding)}"
        )
    if _controls_in(sample) > max(_MOSTLY_BINARY * len(sample), 8) or _bad_bytes(sample):
        _refuse_binary(file)
    raise CorpusInvalid(
        f"{file.name} has a NUL byte at byte {offset}, line {line}, which no text has; remove them all: "
        f"tr -d '\\000' < {_quoted(file.path)} > {_quoted(_mended(file))}"
    )


def _refuse_binary(file: TextFile) -> NoReturn:
    raise CorpusInvalid(f"{file.name} is not text but binary data; take it out of the corpus, or save its text as .txt")


def _refuse_bytes(file: TextFile, encoding: str, error: UnicodeDecodeError) -> NoReturn:
    """Say where the first byte is that is not UTF-8, and what the file may be instead; reads the file again."""
    unknown = (
        f"find out what it is with: file -i {_quoted(file.path)}, and convert it: "
        f"iconv -f … -t UTF-8 {_quoted(file.path)} > {_quoted(_mended(file))}"
    )
    if encoding != "utf-8":
        byte = error.object[error.start]
        raise CorpusInvalid(f"{file.name} is not {encoding}: it has a byte 0x{byte:02X}; {unknown}")
    found = _foreign_bytes(file)
    if found.binary:
        _refuse_binary(file)
    if not found.values:
        raise CorpusInvalid(f"{file.name} was written to while it was read; wait until it is whole, then try again")
    where = f"{file.name} is not UTF-8: byte 0x{found.values[0]:02X} at byte {found.offset}, line {found.line}"
    if _NEITHER_LATIN & set(found.values):
        raise CorpusInvalid(f"{where}, and not Windows-1252 either; {unknown}")
    guess = "WINDOWS-1252" if any(0x80 <= byte <= 0x9F for byte in found.values) else "ISO-8859-1"
    said = "Windows-1252" if guess == "WINDOWS-1252" else "Latin-1"
    if found.valid > len(found.values) // 20:
        raise CorpusInvalid(
            f"{where} looks like {said}, and other lines are UTF-8; convert what is {said} alone, this line with: "
            f"sed -n {found.line}p {_quoted(file.path)} | iconv -f {guess} -t UTF-8, and put it back"
        )
    raise CorpusInvalid(f"{where}; it looks like {said}, so convert it: {_iconv(file, guess)}")


@dataclass(frozen=True)
class _Foreign:
    """What a file has that is not UTF-8. values: of these bytes, the first mebibyte or two; offset: of the first, from
    0; line: its line, from 1. valid: characters beyond ASCII that are UTF-8. binary: it is no text in any encoding.
    """

    values: bytes
    offset: int
    line: int
    valid: int
    binary: bool


def _foreign_bytes(file: TextFile) -> _Foreign:
    """Read the whole file for what is not UTF-8."""
    decoder = codecs.getincrementaldecoder("utf-8")("surrogateescape")
    values, offset, line = bytearray(), 0, 1
    valid = controls = read = 0
    for block in chain(_blocks(file), [b""]):
        text = decoder.decode(block, final=not block)
        if not values:
            first = _ESCAPED.search(text)
            before = text[: first.start()] if first else text
            offset, line = offset + len(before.encode()), line + before.count("\n")
        if len(values) < CHUNK_BYTES:
            values += bytes(ord(one) - 0xDC00 for one in _ESCAPED.findall(text))
        valid += len(_BEYOND_ASCII.findall(text))
        controls, read = controls + _controls_in(block), read + len(block)
    return _Foreign(bytes(values), offset, line, valid, controls > _MOSTLY_BINARY * read)


def _controls_in(data: bytes) -> int:
    """How many control characters there are, those that lay out text aside."""
    return len(data) - len(data.translate(None, _CONTROLS))


def _bad_bytes(sample: bytes) -> int:
    """How many bytes are not UTF-8; a character cut off at the end may count."""
    return len(_ESCAPED.findall(sample.decode("utf-8", "surrogateescape")[:-3]))


def _iconv(file: TextFile, encoding: str) -> str:
    return f"iconv -f {encoding} -t UTF-8 {_quoted(file.path)} > {_quoted(_mended(file))}"


def _mended(file: TextFile) -> Path:
    return file.path.with_name(f"{file.path.stem}.utf8.txt")


def _quoted(path: Path) -> str:
    return shlex.quote(str(path))
