"""Downloads of known bytes: resumed where they broke off, from one mirror after the other, believed by their SHA-256.

A part that arrived is kept beside the file (`.part`) and gone on with, by this process or a later one, from any mirror:
the sum at the end says whether the parts belong together. The file itself appears by renaming, whole.
"""

from __future__ import annotations

import fcntl
import http.client
import os
import re
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import structlog

from trainer_node.engines.tinylm import sealed

ATTEMPTS = 5  # in a row at a mirror that goes on sending and breaking off
SLOWEST_BYTES = 4_096  # within `patience_s`; a mirror that sends less hangs
_READ_BYTES = 1 << 16
_RANGE = re.compile(r"bytes (\d+)-\d+/(\d+|\*)")

log = structlog.get_logger()

Progress = Callable[[int], None]  # bytes that have arrived, of all


@dataclass(frozen=True)
class Wanted:
    """Bytes by their size and sum, and the addresses that may have them."""

    mirrors: Sequence[str]
    sha256: str
    size_bytes: int


class Unavailable(Exception):
    """No mirror gave the bytes; `answers` tells what each said."""

    def __init__(self, answers: Sequence[str]) -> None:
        super().__init__("; ".join(answers))
        self.answers = tuple(answers)


class _Refused(Exception):
    """A mirror cannot give the bytes; the text says why."""


def download(wanted: Wanted, path: Path, *, patience_s: float = 20.0, progress: Progress | None = None) -> Path:
    """Give `path` with the bytes, fetching them unless it is there with the right sum.

    patience_s: seconds for an answer, and for any `SLOWEST_BYTES` of it, before the next mirror is tried. Two processes
    that want the same file do not fetch it twice. progress: called as bytes arrive, and before each try; what it raises
    ends the download and keeps the part.
    Raises Unavailable; DiskFull.
    """
    with _alone(path):
        if _is_whole(path, wanted):
            return path
        answers = []
        for address in wanted.mirrors:
            try:
                _from_mirror(address, wanted, path, patience_s, progress or (lambda _: None))
            except _Refused as refused:
                answers.append(f"{urlsplit(address).hostname}: {refused}")
                log.warning("mirror_refused", address=address, why=str(refused))
            else:
                return path
        raise Unavailable(answers)


def _from_mirror(address: str, wanted: Wanted, path: Path, patience_s: float, progress: Progress) -> None:
    """Fetch and check; a sum that is wrong after going on with an older part is worth a second try from the start."""
    part = path.with_name(f"{path.name}.part")
    went_on = _size(part) > 0
    for _ in range(2):
        _fill(part, address, wanted, patience_s, progress)
        if _is_whole(part, wanted):
            with sealed.room(path.parent):
                part.rename(path)
            return
        part.unlink()
        if not went_on:
            break
        went_on = False
    raise _Refused("other bytes than expected (its SHA-256 is another)")


def _fill(part: Path, address: str, wanted: Wanted, patience_s: float, progress: Progress) -> None:
    """Let the part grow to its size. A connection that breaks after it brought something is taken up again."""
    for attempt in range(1, ATTEMPTS + 1):
        before = _size(part)
        if before >= wanted.size_bytes:
            return
        progress(before)
        try:
            _receive(part, address, wanted, patience_s, progress)
        except urllib.error.HTTPError as error:
            error.close()
            if error.code == http.client.REQUESTED_RANGE_NOT_SATISFIABLE and before:
                part.unlink()
                continue
            raise _Refused(f"HTTP {error.code} {error.reason}") from error
        except (OSError, http.client.HTTPException) as error:
            if _size(part) <= before or attempt == ATTEMPTS:
                raise _Refused(_said(error)) from error
    if _size(part) < wanted.size_bytes:
        raise _Refused(f"broke off {ATTEMPTS} times")


def _receive(part: Path, address: str, wanted: Wanted, patience_s: float, progress: Progress) -> None:
    """Ask for what is missing and append it. Raises OSError or HTTPException where the connection fails."""
    have = _size(part)
    headers = {"User-Agent": "tunesmith", "Accept-Encoding": "identity"}
    if have:
        headers["Range"] = f"bytes={have}-"
    with urllib.request.urlopen(urllib.request.Request(address, headers=headers), timeout=patience_s) as answer:
        start = _start(answer, have, wanted.size_bytes)
        with sealed.room(part.parent), part.open("r+b" if start else "wb") as file:
            file.seek(start)
            for arrived in _chunks(answer, patience_s):
                file.write(arrived)
                if file.tell() > wanted.size_bytes:
                    file.truncate(0)
                    raise _Refused(f"more than the {wanted.size_bytes:,} bytes expected")
                progress(file.tell())
            file.flush()
            os.fsync(file.fileno())
    if _size(part) < wanted.size_bytes:
        raise ConnectionError("the connection broke off")


def _start(answer: http.client.HTTPResponse, have: int, size_bytes: int) -> int:
    """Where the bytes of an answer begin. Raises _Refused where it announces another file."""
    if answer.status == http.client.PARTIAL_CONTENT:
        found = _RANGE.match(answer.headers.get("Content-Range", ""))
        if not found or int(found[1]) != have or found[2] not in (str(size_bytes), "*"):
            raise _Refused(f"another range than asked for ({answer.headers.get('Content-Range')})")
        return have
    announced = answer.headers.get("Content-Length")
    if announced is not None and announced != str(size_bytes):
        raise _Refused(f"{announced} bytes instead of {size_bytes}")
    return 0


def _chunks(answer: http.client.HTTPResponse, patience_s: float) -> Iterator[bytes]:
    """The bytes of an answer, until it ends or sends too slowly."""
    since, arrived = time.monotonic(), 0
    while chunk := answer.read1(_READ_BYTES):
        yield chunk
        arrived += len(chunk)
        now = time.monotonic()
        if now - since > patience_s:
            if arrived < SLOWEST_BYTES:
                raise _Refused(f"less than {SLOWEST_BYTES:,} bytes in {patience_s:g} s")
            since, arrived = now, 0


def _said(error: Exception) -> str:
    """What a failed connection means, in a few words."""
    reason = error.reason if isinstance(error, urllib.error.URLError) else error
    if isinstance(reason, TimeoutError):
        return "no answer"
    if isinstance(reason, OSError):
        return f"no connection ({reason.strerror or reason})"
    return f"no connection ({reason or type(error).__name__})"


def _is_whole(path: Path, wanted: Wanted) -> bool:
    return path.is_file() and _size(path) == wanted.size_bytes and sealed.sha256_of(path) == wanted.sha256


def _size(path: Path) -> int:
    return path.stat().st_size if path.is_file() else 0


@contextmanager
def _alone(path: Path) -> Iterator[None]:
    """Wait for the other processes that download the same file."""
    with sealed.room(path.parent):
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = os.open(path.with_name(f".{path.name}.lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
    finally:
        os.close(lock)
