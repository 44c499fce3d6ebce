"""Data set files for tests, and what is told of them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.unit.sounds import tone, write
from trainer_node.data.jsonl import DatasetFileInvalid, read_dataset_file


def folder_with_clips(tmp_path: Path) -> Path:
    """A folder with different clips a, b, c and d below audio/, and a clip outside of it."""
    (tmp_path / "set" / "audio").mkdir(parents=True)
    for number, name in enumerate(["set/audio/a", "set/audio/b", "set/audio/c", "set/audio/d", "outside"]):
        write(tmp_path / f"{name}.wav", "wav", tone(duration_s=0.1 + number / 100))
    return tmp_path / "set"


def jsonl(folder: Path, *rows: object) -> Path:
    """A file with these rows; a text stands for itself."""
    path = folder / "rated.jsonl"
    path.write_text("".join((r if isinstance(r, str) else json.dumps(r)) + "\n" for r in rows), "utf-8")
    return path


def problems(path: Path, **options: object) -> list[str]:
    """The problems of a file as they are printed, from the name of the file on."""
    with pytest.raises(DatasetFileInvalid) as caught:
        read_dataset_file(path, **options)
    assert caught.value.reason == "SAMPLE_INVALID"
    told = [str(problem) for problem in caught.value.problems]
    assert all("; " in problem for problem in told), "each ends in the next step"
    assert all(problem in str(caught.value) for problem in told)
    return [problem.removeprefix(f"{path.parent}/") for problem in told]
