"""Model files: `best_model.pt`, `final_model.pt`. A dictionary of plain values and tensors, and read as nothing else.

{"config": {"format": …, "model": {…}, …}, "weights": {name: tensor}}: `torch.load(path, weights_only=True)` reads it
anywhere, and refuses everything that could run code (docs/adr/0008).
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from trainer_node.durable import replace_file
from trainer_node.engines.tinylm import layout
from trainer_node.engines.tinylm.model import TinyTransformer
from trainer_node.engines.tinylm.settings import ModelSettings
from trainer_node.errors import BaseModelUnavailable

FORMAT = "tunesmith-tiny-lm-1"
_NEXT = f"give a {layout.BEST} or {layout.FINAL} that `tunesmith lm train` wrote, or train again"

Plain = str | int | float | bool | None


class ModelFileUnreadable(BaseModelUnavailable):
    """The file is missing, damaged, or no language model of ours."""


@dataclass(frozen=True)
class Loaded:
    """A model out of a file. about: what was written beside the weights."""

    model: TinyTransformer
    about: Mapping[str, Plain]


def save(path: Path, weights: Mapping[str, Tensor], shape: ModelSettings, about: Mapping[str, Plain]) -> Path:
    """Write a model, whole or not at all. about: plain values of its training, such as epoch, loss and tokenizer."""
    config = {"format": FORMAT, "model": asdict(shape), "about": dict(about)}
    write(path, {"config": config, "weights": {name: tensor.detach().cpu() for name, tensor in weights.items()}})
    return path


def write(path: Path, content: Mapping[str, Any]) -> None:
    """Write plain values and tensors, whole or not at all."""
    stream = io.BytesIO()
    torch.save(dict(content), stream)
    replace_file(path, stream.getvalue())


def load(path: Path) -> Loaded:
    """Read a model. Nothing in the file is run. Raises ModelFileUnreadable, which says what is wrong with it."""
    content = read(path)
    config, weights = content.get("config"), content.get("weights")
    if not isinstance(config, dict) or not isinstance(weights, dict) or "format" not in config:
        raise ModelFileUnreadable(f"{path} holds no language model of Tunesmith; {_NEXT}")
    if config["format"] != FORMAT:
        raise ModelFileUnreadable(
            f"{path} has the format {config['format']!r}, and this version reads {FORMAT}; update Tunesmith, or {_NEXT}"
        )
    try:
        model = TinyTransformer(ModelSettings(**config["model"]))
        model.load_state_dict(weights)
        about = dict(config["about"])
    except Exception as error:  # settings and tensors of a foreign hand fail in any way; each means the same
        raise ModelFileUnreadable(
            f"{path} has weights and settings that do not fit ({_first_line(error)}); {_NEXT}"
        ) from error
    return Loaded(model, about)


def read(path: Path) -> dict[str, Any]:
    """What a file holds: plain values and tensors. Raises ModelFileUnreadable."""
    try:
        damage = _damage(path)
        content = None if damage else torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        raise ModelFileUnreadable(f"there is no {path}; {_NEXT}") from error
    except Exception as error:  # a damaged or foreign file fails in any way; each means the same to the user
        raise _unreadable(path, _in_words(error)) from error
    if damage:
        raise _unreadable(path, damage)
    if not isinstance(content, dict):
        raise ModelFileUnreadable(f"{path} holds no language model of Tunesmith; {_NEXT}")
    return content


def _damage(path: Path) -> str:
    """What is wrong with the bytes of a file, in words; empty where they are those that were written.

    The archive has a sum of each part, which torch.load does not look at: it would read a wrong bit as a weight.
    """
    if not path.stat().st_size:
        return "it is empty"
    try:
        with zipfile.ZipFile(path) as archive:
            changed = archive.testzip()
    except OSError:
        raise
    except Exception:  # wrong bytes between the parts can look like anything, an encrypted part included
        return "it is no file of weights, or a part of one"
    return f"it was damaged: {changed} in it has not the bytes that were written" if changed else ""


def _unreadable(path: Path, why: str) -> ModelFileUnreadable:
    return ModelFileUnreadable(f"{path} cannot be read ({why}); copy or download it again, or {_NEXT}")


def _in_words(error: Exception) -> str:
    if type(error).__name__ == "UnpicklingError":  # PyTorch would advise to switch the safeguard off
        return "it holds more than weights and plain values"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror.lower()
    return _first_line(error)


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0][:200]
