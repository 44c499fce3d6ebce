"""Files that are either the old one or the new one, and locks that end with their holder, whatever is killed."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


class AlreadyHeld(Exception):
    """Another process holds the lock."""


def replace_file(path: Path, content: bytes) -> None:
    """Put `content` at `path`, durably and in one step; a crash leaves the old content or the new."""
    fresh = path.with_name(f".{path.name}.{os.getpid()}.new")
    try:
        with fresh.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        fresh.rename(path)
    except OSError:
        fresh.unlink(missing_ok=True)
        raise
    fsync_folder(path.parent)


def fsync_folder(folder: Path) -> None:
    """Make the names in `folder` durable."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def take_lock(path: Path) -> int:
    """Hold an exclusive lock on `path` until the descriptor returned is closed. Raises AlreadyHeld."""
    lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        os.close(lock)
        raise AlreadyHeld(f"another process holds {path}") from error
    return lock


@contextmanager
def held(path: Path) -> Iterator[None]:
    """Hold the lock on `path` while inside. Raises AlreadyHeld."""
    lock = take_lock(path)
    try:
        yield
    finally:
        os.close(lock)
