"""The tiny base model is a MusicGen model like any other, and the same bytes each time."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
import torch
from transformers import AutoProcessor, MusicgenForConditionalGeneration

from trainer_node.engines.musicgen.tiny import make_tiny


def content(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.parametrize("stereo", [False, True])
def test_the_tiny_model_is_reproducible_byte_for_byte(tmp_path: Path, stereo: bool) -> None:
    torch.manual_seed(1)
    one = content(make_tiny(tmp_path / "one", stereo=stereo))
    torch.manual_seed(2)
    same = content(make_tiny(tmp_path / "the same in a folder of another name", stereo=stereo))
    other = content(make_tiny(tmp_path / "other", stereo=stereo, seed=1))

    assert one == same
    assert one["model.safetensors"] != other["model.safetensors"]


def test_making_it_leaves_the_callers_randomness_and_threads_alone(tmp_path: Path) -> None:
    torch.manual_seed(1)
    expected = torch.rand(3)
    torch.manual_seed(1)
    threads = torch.get_num_threads()

    make_tiny(tmp_path)

    assert torch.equal(torch.rand(3), expected)
    assert torch.get_num_threads() == threads


@pytest.mark.parametrize(("name", "channels"), [("tiny", 1), ("tiny-stereo", 2)])
def test_it_loads_and_plays_by_plain_transformers(models_dir: Path, name: str, channels: int) -> None:
    processor = AutoProcessor.from_pretrained(models_dir / name)
    model = MusicgenForConditionalGeneration.from_pretrained(models_dir / name)

    inputs = processor(text=["a calm pad", "fast techno, 130 bpm"], padding=True, return_tensors="pt")
    sound = model.generate(**inputs, max_new_tokens=28)

    assert sound.shape == (2, channels, 25 * 320)
    assert bool(sound.isfinite().all())


def test_its_tokenizer_knows_every_letter_of_english(models_dir: Path) -> None:
    tokenizer = AutoProcessor.from_pretrained(models_dir / "tiny").tokenizer

    tokens = tokenizer("Quick Jazz, 128 BPM: bright saxophone & vivid wah-guitar!").input_ids

    assert tokenizer.unk_token_id not in tokens
    assert tokens[-1] == tokenizer.eos_token_id


def test_it_is_small_and_made_in_seconds(tmp_path: Path) -> None:
    began = time.monotonic()

    make_tiny(tmp_path)

    assert time.monotonic() - began < 20
    assert sum(len(value) for value in content(tmp_path).values()) < 4_000_000
