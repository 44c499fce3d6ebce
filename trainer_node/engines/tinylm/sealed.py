"""Folders that are whole or do not count: files first, each renamed into place, and a manifest with their SHA-256 last.

Whoever reads asks `facts_of`, which trusts nothing but the manifest and the bytes. A process that is killed at any
moment leaves a folder without a manifest, or with a manifest that still fits the files: the manifest of what was there
before is removed first.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from trainer_node.durable import fsync_folder, replace_file
from trainer_node.errors import DiskFull
from trainer_node.preflight import NO_ROOM


class NotSealed(Exception):
    """The folder is not whole; the text says what is wrong with it."""


@contextmanager
def room(folder: Path) -> Iterator[None]:
    """Raise DiskFull, naming `folder`, where what is written inside finds no room."""
    try:
        yield
    except OSError as error:
        if error.errno not in NO_ROOM:
            raise
        raise DiskFull(f"there is no room left on the disk of {folder}; free some space there and try again") from error


def write_whole(folder: Path, manifest: str, files: Mapping[str, bytes], facts: Mapping[str, Any]) -> None:
    """Put `files` into `folder`, then seal it. facts: what else the manifest tells. Raises DiskFull."""
    with room(folder):
        folder.mkdir(parents=True, exist_ok=True)
        unseal(folder, manifest)
        for name, content in files.items():
            replace_file(folder / name, content)
    seal(folder, manifest, files, facts)


def seal(folder: Path, manifest: str, names: Iterable[str], facts: Mapping[str, Any]) -> None:
    """Write the manifest of files, by names relative to the folder, which lie there flushed. Raises DiskFull."""
    listed = {name: sha256_of(folder / name) for name in sorted(names)}
    text = json.dumps({**facts, "files": listed}, indent=1, ensure_ascii=False) + "\n"
    with room(folder):
        replace_file(folder / manifest, text.encode())


def unseal(folder: Path, manifest: str) -> None:
    """Remove the manifest, durably: from now on the folder does not count."""
    if (folder / manifest).exists():
        (folder / manifest).unlink()
        fsync_folder(folder)


def facts_of(folder: Path, manifest: str) -> dict[str, Any]:
    """The facts of a whole folder. Raises NotSealed unless every file has the bytes that the manifest names."""
    try:
        facts: dict[str, Any] = json.loads((folder / manifest).read_bytes())
        listed = {str(name): str(digest) for name, digest in facts.pop("files").items()}
    except FileNotFoundError as error:
        raise NotSealed(f"there is no {manifest} in {folder}") from error
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise NotSealed(f"{folder / manifest} cannot be read") from error
    for name, digest in listed.items():
        path = folder / name
        if ".." in Path(name).parts or Path(name).is_absolute() or not path.is_file():
            raise NotSealed(f"{path} is missing")
        if sha256_of(path) != digest:
            raise NotSealed(f"{path} has other bytes than {manifest} says")
    return facts


def is_whole(folder: Path, manifest: str) -> bool:
    """Whether every file is there with the bytes that the manifest names."""
    try:
        facts_of(folder, manifest)
    except NotSealed:
        return False
    return True


def sha256_of(path: Path) -> str:
    """The SHA-256 of a file, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def replacing(path: Path) -> Iterator[Callable[[str], object]]:
    """Give a function that writes text; on a normal exit the file is flushed and renamed to `path`. Raises DiskFull."""
    fresh = path.with_name(f".{path.name}.{os.getpid()}.new")
    with room(path.parent):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with fresh.open("w", encoding="utf-8", newline="\n") as file:
                yield file.write
                file.flush()
                os.fsync(file.fileno())
            fresh.rename(path)
        except BaseException:
            fresh.unlink(missing_ok=True)
            raise
        fsync_folder(path.parent)
