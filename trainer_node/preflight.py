"""What is checked before a training starts, so that it fails in its first second and says what to do."""

from __future__ import annotations

import errno
import json
import math
import random
import shutil
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from trainer_node import packaged_model
from trainer_node.errors import BaseModelUnavailable, DataInvalid, DiskFull
from trainer_node.training import TrainingComparison, TrainingSample

GB = 1e9
NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)  # numbers of the errors that say that a disk is full
_SPARE_BYTES = 10**9
_HOW_TO_COMPARE = "rate or compare clips that share a prompt, or lower min_rating_gap"


def find_base_model(models_dir: Path, name: str) -> Path | str:
    """The folder of a base model, or its Hugging Face id where the models directory has no folder of that name.

    `tunesmith/micro` comes with Tunesmith; a folder of that name in the models directory stands above it. Raises
    BaseModelUnavailable where it can be neither, or where the folder is not a MusicGen model.
    """
    folder = models_dir / name
    if not folder.is_dir() and name == packaged_model.NAME:
        folder = packaged_model.FOLDER
    if folder.is_dir():
        _require_musicgen(folder)
        return folder
    if "/" not in name:
        raise BaseModelUnavailable(
            f"the models directory has no folder {name!r} ({_folders(models_dir)}); put the base model there, or give "
            f"{packaged_model.NAME}, which comes with Tunesmith, or a Hugging Face id such as facebook/musicgen-small; "
            "in the foreground, --base-model DIR names any folder",
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
    _require_audio(f"sample {n}" for n, sample in enumerate(samples, 1) if not sample.audio_path.is_file())


def require_pairs(comparisons: Sequence[TrainingComparison]) -> None:
    """Raises DataInvalid unless there are pairs, each of two different clips with their audio, the better one first."""
    if not comparisons:
        raise DataInvalid(f"the data set has no preference pairs; {_HOW_TO_COMPARE}")
    for number, pair in enumerate(comparisons, 1):
        if len(pair.clips) != 2:
            raise DataInvalid(
                f"{_named(number, pair)} has {len(pair.clips)} clips where a pair has two; freeze the data as pairs, "
                "or train by ranking"
            )
        chosen, rejected = pair.clips
        if chosen.audio_digest == rejected.audio_digest:
            raise DataInvalid(
                f"chosen and rejected of {_named(number, pair)} are the same clip; take the pair out of the data set"
            )
        _require_order(number, pair)
    _require_audio_of(comparisons)


def require_lists(comparisons: Sequence[TrainingComparison]) -> None:
    """Raises DataInvalid unless there are lists, each of at least two different clips, best first and not all tied."""
    if not comparisons:
        raise DataInvalid(f"the data set has no ranked lists; {_HOW_TO_COMPARE}")
    for number, ranked in enumerate(comparisons, 1):
        if len(ranked.clips) < 2:
            raise DataInvalid(
                f"{_named(number, ranked)} has {len(ranked.clips)} clip, so there is nothing to rank; add clips of "
                "the same prompt, or take it out of the data set"
            )
        if len({clip.audio_digest for clip in ranked.clips}) < len(ranked.clips):
            raise DataInvalid(f"{_named(number, ranked)} has a clip twice; take one of them out of the data set")
        _require_order(number, ranked)
    _require_audio_of(comparisons)


def _require_order(number: int, comparison: TrainingComparison) -> None:
    ranks = [clip.rank for clip in comparison.clips]
    if len(set(ranks)) == 1:
        raise DataInvalid(
            f"every clip of {_named(number, comparison)} is tied, so nothing is preferred; take it out of the data set"
        )
    if ranks != sorted(ranks):
        raise DataInvalid(f"the clips of {_named(number, comparison)} are not best first; freeze a new version")


def _named(number: int, comparison: TrainingComparison) -> str:
    return f"comparison {number} ({comparison.prompt!r:.80})"


def _require_audio_of(comparisons: Sequence[TrainingComparison]) -> None:
    absent = (
        f"clip {place} of comparison {number}"
        for number, comparison in enumerate(comparisons, 1)
        for place, clip in enumerate(comparison.clips, 1)
        if not clip.audio_path.is_file()
    )
    _require_audio(absent)


def _require_audio(absent: Iterator[str]) -> None:
    missing = list(absent)
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


def split_comparisons(
    comparisons: Sequence[TrainingComparison], *, fraction: float, seed: int
) -> tuple[list[TrainingComparison], list[TrainingComparison]]:
    """The pairs or lists to train on and those held out, each in the given order; the same seed gives the same split.

    Whole prompts are held out, at least one, until they have `fraction` of the comparisons or only one prompt is left
    to train on. One that would overshoot by more than is missing is passed over, unless none is smaller; one with more
    than half of the comparisons is trained on. fraction: 0 (nothing) to 0.5.
    """
    if fraction == 0:
        return list(comparisons), []
    sizes = Counter(comparison.prompt for comparison in comparisons)
    if len(sizes) == 1:
        raise DataInvalid(
            "a single prompt cannot be both trained on and held out; add comparisons of other prompts, or set "
            "validation_fraction to 0"
        )
    prompts = sorted(sizes)
    random.Random(seed).shuffle(prompts)
    held: set[str] = set()
    missing, smallest = fraction * len(comparisons) * (1 - 1e-9), min(sizes.values())  # 0.1 of 30 is a little above 3
    for prompt in prompts:
        size = sizes[prompt]
        if missing <= 0 or len(held) == len(sizes) - 1:
            break
        if 2 * size > len(comparisons) or size > max(2 * missing, smallest):
            continue
        held.add(prompt)
        missing -= size
    training = [comparison for comparison in comparisons if comparison.prompt not in held]
    return training, [comparison for comparison in comparisons if comparison.prompt in held]


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
        if error.errno not in NO_ROOM:
            raise
        raise DiskFull(
            f"the disk of the output folder is full; free at least {_SPARE_BYTES / GB:.1f} GB and resume the run",
            free_bytes=shutil.disk_usage(folder).free,
        ) from error
