"""Checkpoints that were damaged, or made to do harm: refused in a sentence, and at once."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from tests.support import audiocraft
from trainer_node.engines.musicgen import family
from trainer_node.engines.musicgen.importing import import_checkpoint
from trainer_node.engines.musicgen.interop import checkpoint_files, writing
from trainer_node.engines.musicgen.interop.errors import CheckpointRefused

PROJECTION = "transformer.layers.1.self_attn.in_proj_weight"


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory, wide_models_dir: Path) -> Path:
    """A folder with a checkpoint that is all right."""
    folder = tmp_path_factory.mktemp("sound")
    writing.write(family.load_base(wide_models_dir / "wide", name="wide"), folder, text_encoder_name="t5-small")
    return folder


def without_numbers(tensor: Tensor) -> Tensor:
    return tensor.to("meta")


def larger_than_its_file(tensor: Tensor) -> Tensor:
    return torch.zeros(1).expand(1 << 40)


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (lambda tensor: tensor[:1], r"in_proj_weight is of \(1, 64\), which cannot be parted into 3"),
        (lambda tensor: tensor.sum(), r"in_proj_weight is of \(\), which cannot be parted into 3"),
        (lambda tensor: tensor.to(torch.int64), "in_proj_weight holds no fractions but int64"),
        (lambda tensor: tensor / 0, "in_proj_weight holds numbers that are not finite"),
        (lambda tensor: tensor.to_sparse(), "in_proj_weight does not hold its numbers"),
        (without_numbers, "in_proj_weight does not hold its numbers"),
        (larger_than_its_file, "in_proj_weight does not hold its numbers"),
    ],
)
def test_a_tensor_that_is_no_weight_is_named(
    change: Callable[[Tensor], Tensor], why: str, sound: Path, tmp_path: Path, wide_models_dir: Path
) -> None:
    tensors, text = checkpoint_files.exported(sound / checkpoint_files.DECODER)
    checkpoint_files.write(tmp_path / "odd.bin", tensors | {PROJECTION: change(tensors[PROJECTION])}, text)

    with pytest.raises(CheckpointRefused, match=why):
        import_checkpoint(tmp_path / "odd.bin", tmp_path / "base", like="wide", models_dir=wide_models_dir)

    assert [path.name for path in tmp_path.iterdir()] == ["odd.bin"]


@pytest.mark.parametrize(
    ("setting", "value", "why"),
    [
        ("n_q", "1000000000", "n_q is 1000000000, more than 64"),
        ("hidden_scale", "100000000", r"feed-forward layers are of \(\d+, 64\), not \(6400000000, 64\)"),
        ("hidden_scale", ".inf", "hidden_scale in the checkpoint's settings is inf"),
        ("num_layers", ".nan", "num_layers in the checkpoint's settings is nan"),
        ("num_layers", "1" + "0" * 400, "num_layers in the checkpoint's settings is 1000"),
        ("num_heads", "5", "its width, 64, cannot be parted into 5 heads"),
    ],
)
def test_a_size_that_the_tensors_do_not_have_is_refused_before_anything_is_built(
    setting: str, value: str, why: str, sound: Path, tmp_path: Path, wide_models_dir: Path
) -> None:
    tensors, text = checkpoint_files.exported(sound / checkpoint_files.DECODER)
    changed = re.sub(rf"\b{setting}: \S+", f"{setting}: {value}", text)
    checkpoint_files.write(tmp_path / "odd.bin", tensors, changed)

    with pytest.raises(CheckpointRefused, match=why):
        import_checkpoint(tmp_path / "odd.bin", tmp_path / "base", like="wide", models_dir=wide_models_dir)


class Blocked:
    """What torch does not even name as foreign: a function of a module that it blocks."""

    def __reduce__(self) -> tuple[Callable[[str], None], tuple[str]]:
        return os.mkdir, ("ran",)


@pytest.mark.parametrize("trap", [audiocraft.Trap(Path("ran")), Blocked()])
def test_who_gives_a_pickle_that_runs_code_is_not_told_to_let_it(
    trap: object, tmp_path: Path, recwarn: pytest.WarningsRecorder
) -> None:
    audiocraft.save(trap, tmp_path / "state_dict.bin")

    with pytest.raises(CheckpointRefused) as refused:
        import_checkpoint(tmp_path, tmp_path / "base", like="wide", models_dir=tmp_path)

    assert "nothing but tensors and text is read" in refused.value.message
    assert "weights_only" not in refused.value.message
    assert list(recwarn) == []


@pytest.mark.parametrize(
    ("content", "why"),
    [(b"", r"\(it is empty\)"), (b"no checkpoint at all", "torch"), (b"PK\x03\x04 cut", "damaged")],
)
def test_a_damaged_file_is_told_in_a_few_words(content: bytes, why: str, tmp_path: Path) -> None:
    (tmp_path / "state_dict.bin").write_bytes(content)

    with pytest.raises(CheckpointRefused, match=why) as refused:
        import_checkpoint(tmp_path, tmp_path / "base", like="wide", models_dir=tmp_path)

    assert "weights_only" not in refused.value.message
    assert len(refused.value.message) < 300
