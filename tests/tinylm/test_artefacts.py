"""A model file is read as plain values and tensors, or refused with what is wrong with it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.tinylm.tiny import SHAPE, model, same_bits, tokens
from trainer_node.engines.tinylm import artefacts
from trainer_node.engines.tinylm.artefacts import FORMAT, ModelFileUnreadable


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A good file."""
    return artefacts.save(tmp_path / "best_model.pt", model().state_dict(), SHAPE, {"epoch": 3, "loss": 4.5})


def test_a_model_comes_back_as_it_was(path: Path) -> None:
    loaded = artefacts.load(path)

    assert same_bits(loaded.model.state_dict(), model().state_dict())
    assert torch.equal(loaded.model(tokens(2, 9)), model()(tokens(2, 9)))
    assert loaded.about == {"epoch": 3, "loss": 4.5}
    assert loaded.model.settings == SHAPE


def test_the_file_holds_plain_values_and_tensors(path: Path) -> None:
    content = artefacts.read(path)

    assert content.keys() == {"config", "weights"}
    assert content["config"]["format"] == FORMAT
    assert content["config"]["model"]["d_model"] == 16
    assert all(isinstance(tensor, torch.Tensor) for tensor in content["weights"].values())


def test_writing_again_replaces_the_file_whole(path: Path) -> None:
    artefacts.save(path, model().state_dict(), SHAPE, {"epoch": 4})

    assert artefacts.load(path).about == {"epoch": 4}
    assert [file.name for file in path.parent.iterdir()] == ["best_model.pt"]


def changed(path: Path, change: Any) -> Path:
    """The file with its content changed."""
    content = artefacts.read(path)
    change(content)
    artefacts.write(path, content)
    return path


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"", r"cannot be read \(it is empty\)"),
        (b"not a model", r"cannot be read \(it is no file of weights, or a part of one\)"),
        (b"PK\x03\x04 broken", r"cannot be read \(it is no file of weights, or a part of one\)"),
    ],
    ids=["empty", "text", "a broken archive"],
)
def test_a_file_that_is_no_model_is_refused(path: Path, content: bytes, why: str) -> None:
    path.write_bytes(content)

    with pytest.raises(ModelFileUnreadable, match=why) as refused:
        artefacts.load(path)

    assert "give a best_model.pt or final_model.pt" in refused.value.message


def test_a_file_that_lost_its_end_is_refused(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-2000])

    with pytest.raises(ModelFileUnreadable, match="cannot be read"):
        artefacts.load(path)


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_a_model_in_which_one_bit_is_wrong_is_refused(path: Path, share: float) -> None:
    content = bytearray(path.read_bytes())
    weights = model().state_dict()["tokens.weight"].numpy().tobytes()
    content[content.index(weights) + int(share * len(weights))] ^= 0x40
    path.write_bytes(content)

    with pytest.raises(ModelFileUnreadable, match=r"it was damaged: .* has not the bytes that were written"):
        artefacts.load(path)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ModelFileUnreadable, match=r"there is no .*nowhere\.pt"):
        artefacts.load(tmp_path / "nowhere.pt")


def test_a_file_that_would_run_code_is_refused_unread(tmp_path: Path) -> None:
    made = tmp_path / "made"
    # the bytes of a pickle, protocol 0, that would call os.mkdir(made)
    (tmp_path / "evil.pt").write_bytes(f"cos\nmkdir\n(S'{made}'\ntR.".encode())

    with pytest.raises(ModelFileUnreadable, match="cannot be read"):
        artefacts.load(tmp_path / "evil.pt")
    assert not made.exists()


class _Evil:
    """Unpickled, it would make a folder."""

    def __init__(self, made: Path) -> None:
        self.made = made

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.made),)


def test_a_file_that_holds_code_is_refused_in_our_words(tmp_path: Path) -> None:
    torch.save({"config": _Evil(tmp_path / "made"), "weights": {}}, tmp_path / "evil.pt")

    with pytest.raises(ModelFileUnreadable, match="it holds more than weights and plain values") as refused:
        artefacts.load(tmp_path / "evil.pt")

    assert "weights_only" not in refused.value.message  # PyTorch's own advice is to switch the safeguard off
    assert not (tmp_path / "made").exists()


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (lambda content: content.pop("weights"), "holds no language model of Tunesmith"),
        (lambda content: content["config"].pop("format"), "holds no language model of Tunesmith"),
        (lambda content: content["config"].update(format="tunesmith-tiny-lm-9"), "this version reads"),
        (lambda content: content["config"]["model"].update(ffn=64), "do not fit"),
        (lambda content: content["config"]["model"].update(wings=2), "do not fit"),
        (lambda content: content["config"]["model"].update(heads=3), "do not fit"),
        (lambda content: content["weights"].pop("tokens.weight"), "do not fit"),
    ],
    ids=["no weights", "no format", "a newer format", "other width", "unknown setting", "impossible", "a part missing"],
)
def test_a_foreign_file_is_refused(path: Path, change: Any, why: str) -> None:
    with pytest.raises(ModelFileUnreadable, match=why):
        artefacts.load(changed(path, change))
