"""Commands that train in the foreground let OpenMP's threads sleep while they wait; asked of OpenMP itself."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

from tests.rules.sources import ROOT

CLI = ["-m", "services.cli.main"]


def heard_by_openmp(arguments: list[str], folder: Path, **environment: str) -> dict[str, str]:
    """The settings that OpenMP prints when PyTorch loads it, in a program that is started with these arguments."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("OMP_", "GOMP_"))}
    paths = os.pathsep.join([str(ROOT), str(ROOT / "proto")])
    done = subprocess.run(
        [sys.executable, *arguments],
        cwd=folder,
        env={**inherited, "PYTHONPATH": paths, "OMP_DISPLAY_ENV": "VERBOSE", **environment},
        capture_output=True,
        text=True,
        timeout=240,
    )
    settings = dict(re.findall(r"^ *(?:\[\w+\] )?(G?OMP_\w+) = '(.*)'$", done.stderr, re.MULTILINE))
    assert settings, done.stdout + done.stderr
    return settings


@pytest.fixture(scope="module")
def materials_here(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a data set of one clip, a text, and settings: enough to get as far as PyTorch."""
    folder = tmp_path_factory.mktemp("openmp")
    (folder / "job.yaml").write_text("supervised: {adapter: {base_model: nowhere}}\n")
    soundfile.write(folder / "tune.wav", np.zeros(8000), 8000)
    (folder / "rated.jsonl").write_text('{"audio": "tune.wav", "prompt": "a tune", "rating": 5}\n')
    (folder / "text.txt").write_text("far too short\n")
    return folder


@pytest.mark.parametrize(
    "arguments",
    [
        [*CLI, "train", "supervised", "--dataset", "rated.jsonl", "--base-model", "nowhere", "--output", "out-cli"],
        [*CLI, "lm", "train", "--corpus-path", "text.txt", "--output", "out-lm"],
        [*CLI, "model", "train-micro", "."],
        ["-m", "trainer_node", "job.yaml", "--dataset", "rated.jsonl", "--output", "out-module"],
    ],
    ids=["train", "lm", "train-micro", "module"],
)
def test_waiting_threads_sleep_in_every_training_of_the_foreground(arguments: list[str], materials_here: Path) -> None:
    settings = heard_by_openmp(arguments, materials_here)

    assert (settings["OMP_WAIT_POLICY"], settings["GOMP_SPINCOUNT"]) == ("PASSIVE", "0")


def test_who_says_otherwise_is_heeded(materials_here: Path) -> None:
    arguments = [*CLI, "model", "make-tiny", "tiny"]

    settings = heard_by_openmp(arguments, materials_here, OMP_WAIT_POLICY="active")

    assert settings["OMP_WAIT_POLICY"] == "ACTIVE"
