"""What is checked before a training starts, so that it fails in its first second and says what to do."""

from __future__ import annotations

import errno
import json
import math
import random
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from trainer_node.errors import BaseModelUnavailable, DataInvalid, DiskFull
from trainer_node.training import TrainingSample

GB = 1e9
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT)
_SPARE_BYTES = 10**9


def find_base_model(models_dir: Path, name: str) -> Path | str:
    """The folder of a base model, or its Hugging Face id where the models directory has no folder of that name.

    Raises BaseModelUnavailable where it can be neither, or where the folder is not a MusicGen model.
    """
    folder = models_dir / name
    if folder.is_dir():
        _require_musicgen(folder)
        return folder
    if "/" not in name:
        raise BaseModelUnavailable(
            f"the models directory has no folder {name!r} ({_folders(models_dir)}); put the base model there, or give "
            "a Hugging Face id such as facebook/musicgen-small",
            base_model=name,
        )
    return name


def _folders(models_dir: Path) -> str:
    names = sorted(path.name for path in models_dir.iterdir() if path.is_dir()) if models_dir.is_dir() else []
    return f"it has: {', '.join(names[:10])}" if names else "it has none"


def _require_musicgen(folder: Path) -> None:
    try:
        kind = json.loads((folder / "config.json").read_text(encoding="utf-8")).get("model_type")
    except (OSError, ValueError, AttributeError) as error:
        raise BaseModelUnavailable(
            f"the base model folder {folder.name!r} has no readable config.json; copy the whole model folder again",
            base_model=folder.name,
        ) from error
    if kind != "musicgen":
        raise BaseModelUnavailable(
            f"the base model {folder.name!r} is of type {kind!r}, not MusicGen; give such as facebook/musicgen-small",
            base_model=folder.name,
        )


def require_samples(samples: Sequence[TrainingSample]) -> None:
    """Raises DataInvalid where there is nothing to train on, or where files are missing (naming the first ten)."""
    if not samples:
        raise DataInvalid("the data set has no samples; add some, or lower min_rating")
    missing = [f"sample {n}" for n, sample in enumerate(samples, 1) if not sample.audio_path.is_file()]
    if missing:
        shown = ", ".join(missing[:10]) + (f" and {len(missing) - 10} more" if len(missing) > 10 else "")
        raise DataInvalid(f"the audio of {shown} is missing; fetch it again")


def split(
    samples: Sequence[TrainingSample], *, fraction: float, seed: int
) -> tuple[list[TrainingSample], list[TrainingSample]]:
    """The samples to train on and those held out, each in the given order; the same seed gives the same split.

    Whole clips are held out: samples that share their audio stay together, so that validation hears nothing that was
    trained on. At least one clip is held out where `fraction` is above 0, and at least one is trained on.
    """
    clips = sorted({sample.audio_digest for sample in samples})
    if fraction == 0:
        return list(samples), []
    if len(clips) == 1:
        raise DataInvalid(
            "a single clip cannot be both trained on and held out; add clips, or set validation_fraction to 0"
        )
    random.Random(seed).shuffle(clips)
    held = set(clips[: min(max(1, round(fraction * len(clips))), len(clips) - 1)])
    training = [sample for sample in samples if sample.audio_digest not in held]
    return training, [sample for sample in samples if sample.audio_digest in held]


def require_space(folder: Path, size_bytes: int, *, purpose: str) -> None:
    """Raises DiskFull, saying how much to free, where the disk of `folder` has no room for `size_bytes`."""
    folder.mkdir(parents=True, exist_ok=True)
    free_bytes = shutil.disk_usage(folder).free
    if free_bytes < size_bytes:
        raise DiskFull(
            f"{purpose} need {_readable(size_bytes)} and {_readable(free_bytes)} are free; "
            f"free {_readable(size_bytes - free_bytes)} on the disk of the output folder",
            needed_bytes=size_bytes,
            free_bytes=free_bytes,
        )


def _readable(size_bytes: int) -> str:
    return f"{size_bytes / GB:.1f} GB" if size_bytes >= GB else f"{math.ceil(size_bytes / 1e6)} MB"


@contextmanager
def disk_full_says_what_to_free(folder: Path) -> Iterator[None]:
    """Turn a write that found no room into DiskFull."""
    try:
        yield
    except OSError as error:
        if error.errno not in _NO_ROOM:
            raise
        raise DiskFull(
            f"the disk of the output folder is full; free at least {_SPARE_BYTES / GB:.1f} GB and resume the run",
            free_bytes=shutil.disk_usage(folder).free,
        ) from error
