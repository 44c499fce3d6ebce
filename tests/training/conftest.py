"""Real trainings of tiny models. The models are built once; so is the feature cache, which is keyed by content."""

from __future__ import annotations

import gc
from pathlib import Path

import pytest
import torch

from tests.support.audiocraft import known_width
from tests.training.studio import Studio
from trainer_node.engines.musicgen.family import BaseModel, load_base
from trainer_node.engines.musicgen.tiny import make_tiny


@pytest.fixture(scope="session")
def models_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A models directory with `tiny` and `tiny-stereo`."""
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("models")
    make_tiny(folder / "tiny")
    make_tiny(folder / "tiny-stereo", stereo=True)
    # Each training makes accelerate collect all garbage, which need not mean the libraries' half a million objects.
    gc.collect()
    gc.freeze()
    return folder


@pytest.fixture(scope="session")
def wide_models_dir(tmp_path_factory: pytest.TempPathFactory, models_dir: Path) -> Path:
    """A models directory with `wide` and `wide-stereo`: tiny, but with a T5 as wide as one that audiocraft knows."""
    folder = tmp_path_factory.mktemp("wide")
    known_width(models_dir / "tiny", folder / "wide")
    known_width(models_dir / "tiny-stereo", folder / "wide-stereo")
    return folder


@pytest.fixture(scope="session")
def cache_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The feature cache of all tests but those about it."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def studio(tmp_path: Path, models_dir: Path, cache_dir: Path) -> Studio:
    """A bench with a folder of its own."""
    return Studio(tmp_path, models_dir, cache_dir)


@pytest.fixture
def base(models_dir: Path) -> BaseModel:
    """A fresh mono base model."""
    return load_base(models_dir / "tiny", name="tiny")


@pytest.fixture
def stereo_base(models_dir: Path) -> BaseModel:
    """A fresh stereo base model."""
    return load_base(models_dir / "tiny-stereo", name="tiny-stereo")
