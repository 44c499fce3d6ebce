"""Committed checkpoints: a folder is either whole and proven so, or it does not count.

A checkpoint is written into a folder of another name, flushed to the disk, sealed by a manifest with the SHA-256 of
every file, and only then renamed to `step-<number>`. A crash at any moment leaves the checkpoints before it untouched
and at most a folder that nobody reads. `latest` trusts the manifests alone: bytes that were lost or changed afterwards
make it fall back to the checkpoint before.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import structlog

from trainer_node.errors import CheckpointCorrupt

MANIFEST = "manifest.json"
_NAME = re.compile(r"step-(\d{8,})")

log = structlog.get_logger()


def step_of(folder: Path) -> int:
    """The step that a checkpoint's manifest names. Raises CheckpointCorrupt where there is none to read."""
    return _manifest(folder)[0]


def checkpoints(folder: Path) -> list[Path]:
    """The folders of committed checkpoints, oldest step first; their files are not looked at."""
    found = [path for path in folder.glob("step-*") if _NAME.fullmatch(path.name)] if folder.is_dir() else []
    return sorted(found, key=lambda path: int(path.name.removeprefix("step-")))


def verify(folder: Path) -> None:
    """Raises CheckpointCorrupt unless `folder` holds every file of its manifest, byte for byte, and no other."""
    _, listed = _manifest(folder)
    present = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()} - {MANIFEST}
    problems = [f"{name} is missing" for name in sorted(set(listed) - present)]
    problems += [f"{name} does not belong to it" for name in sorted(present - set(listed))]
    problems += [
        f"{name} has other bytes" for name in sorted(present & set(listed)) if _digest(folder / name) != listed[name]
    ]
    if problems:
        raise CheckpointCorrupt(
            f"the checkpoint {folder.name} is not whole: {'; '.join(problems[:3])}; go on from an earlier one, or "
            "start a new run"
        )


def latest(folder: Path) -> Path | None:
    """The newest whole checkpoint in `folder`, or None. One that is not whole is skipped, with a line in the log."""
    for candidate in reversed(checkpoints(folder)):
        try:
            verify(candidate)
        except CheckpointCorrupt as torn:
            log.warning("checkpoint_skipped", checkpoint=candidate.name, why=torn.message)
        else:
            return candidate
    return None


def discard_after(folder: Path, step: int) -> None:
    """Remove checkpoints later than `step`: a training that goes on from there will write its own."""
    for later in checkpoints(folder):
        if int(later.name.removeprefix("step-")) > step:
            log.info("checkpoint_discarded", checkpoint=later.name, resumed_step=step)
            shutil.rmtree(later)


class CheckpointFolder:
    """The checkpoints of one training: the `keep` most recent and the best. A single writer."""

    def __init__(self, folder: Path, *, keep: int) -> None:
        self.folder = folder
        self.keep = keep
        folder.mkdir(parents=True, exist_ok=True)
        for remnant in folder.glob(".writing-*"):
            shutil.rmtree(remnant)

    def path(self, step: int) -> Path:
        """The folder of the checkpoint of `step`."""
        return self.folder / f"step-{step:08d}"

    @contextmanager
    def commit(self, step: int) -> Iterator[Path]:
        """Give a folder to write into; on a normal exit it becomes the checkpoint of `step`, in place of an older one.

        If the body raises, nothing is committed and what it wrote is removed.
        """
        final = self.path(step)
        writing = self.folder / f".writing-{final.name}"
        shutil.rmtree(writing, ignore_errors=True)
        writing.mkdir()
        try:
            yield writing
            _seal(writing, step)
        except BaseException:
            shutil.rmtree(writing, ignore_errors=True)
            raise
        # One more zero is a name that counts, for the same step: killed between these two renames, it is gone on with.
        replaced = self.folder / f"step-0{final.name.removeprefix('step-')}"
        if final.exists():
            shutil.rmtree(replaced, ignore_errors=True)
            final.rename(replaced)
        writing.rename(final)
        _sync(self.folder)
        shutil.rmtree(replaced, ignore_errors=True)

    def prune(self, *, best_step: int | None) -> None:
        """Remove all but the `keep` most recent checkpoints and that of `best_step`."""
        for old in checkpoints(self.folder)[: -self.keep]:
            if best_step is None or old != self.path(best_step):
                shutil.rmtree(old)


def _manifest(folder: Path) -> tuple[int, dict[str, str]]:
    try:
        manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        return int(manifest["step"]), dict(manifest["files"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CheckpointCorrupt(
            f"the checkpoint {folder.name} has no readable {MANIFEST}; go on from an earlier one, or start a new run"
        ) from error


def _seal(folder: Path, step: int) -> None:
    """Flush every file, then write the manifest, the last file of all."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    for path in [*files, *(path for path in folder.rglob("*") if path.is_dir())]:
        _sync(path)
    listed = {path.relative_to(folder).as_posix(): _digest(path) for path in files}
    (folder / MANIFEST).write_text(json.dumps({"step": step, "files": listed}, indent=1), encoding="utf-8")
    _sync(folder / MANIFEST)
    _sync(folder)


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
