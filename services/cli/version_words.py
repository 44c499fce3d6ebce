"""What a frozen version of a data set holds, in words."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tunesmith.v1.dataset_pb2 import DatasetVersion


def form(version: DatasetVersion) -> str:
    """`rated clips`, `pairs` or `ranked lists`."""
    settings = version.derivation.WhichOneof("settings")
    return settings.replace("_", " ") if settings else "rated clips"


def count(version: DatasetVersion) -> int:
    """Lines of its JSONL: clips, pairs or lists."""
    return int(version.derivation.count if version.HasField("derivation") else version.sample_count)


def holding(version: DatasetVersion) -> str:
    """`312 pairs from 140 prompts, 41 ties skipped`, or `24 clips, those rated 4 or better`."""
    if version.HasField("derivation"):
        from tunesmith.preferences import summary

        return summary(version.derivation)
    clips = "1 clip" if version.sample_count == 1 else f"{version.sample_count} clips"
    return f"{clips}{rated(version)}"


def rated(version: DatasetVersion) -> str:
    """`, those rated 4 or better`; empty where every rating was let in."""
    return f", those rated {version.min_rating:g} or better" if version.HasField("min_rating") else ""
