"""audiocraft's checkpoint files: pickled dictionaries of tensors and text. The only place that reads or writes any.

What is read cannot run code: `weights_only` admits tensors and plain values and nothing else (docs/adr/0015). What is
written holds nothing else, so audiocraft reads it in the same way.
"""

from __future__ import annotations

import re
import warnings
import zipfile
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from trainer_node.engines.musicgen.interop.errors import CheckpointRefused

DECODER = "state_dict.bin"
CODEC = "compression_state_dict.bin"
VERSION = "1.3.0"  # of audiocraft, whose layout this is

HOW_TO_EXPORT = (
    'export it first, where audiocraft is installed: python -c "from audiocraft.utils import export; '
    "export.export_lm('checkpoint.th', 'state_dict.bin')\""
)


def write(path: Path, tensors: dict[str, Tensor], settings: str) -> None:
    """Write one model's tensors and its settings, as YAML."""
    content = {"best_state": tensors, "xp.cfg": settings, "version": VERSION, "exported": True}
    torch.save(content, path)


def read(path: Path) -> dict[str, Any]:
    """Read a file with tensors and plain values. Raises CheckpointRefused where it holds anything else."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of torch, about pickles that it then refuses
            content = torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path))
    except FileNotFoundError as error:
        what = f"there is no {path.name} in {path.parent}; give the file itself, or a folder that holds {DECODER}"
        raise CheckpointRefused(what) from error
    except Exception as error:  # a damaged or foreign pickle fails in any way; each means the same to the user
        if "omegaconf" in str(error):
            what = f"{path} is a checkpoint of a training, which holds more than tensors and text; {HOW_TO_EXPORT}"
            raise CheckpointRefused(what) from error
        why = _why(path, error)
        what = f"{path} cannot be read as an audiocraft checkpoint ({why}); copy it again, or export it again"
        raise CheckpointRefused(what) from error
    if not isinstance(content, dict):
        raise CheckpointRefused(
            f"{path} holds no audiocraft checkpoint but a {type(content).__name__}; {HOW_TO_EXPORT}"
        )
    return content


def _why(path: Path, error: Exception) -> str:
    """In a few words why torch does not read a file; its own sentences advise to run what is in it."""
    text = str(error)
    if foreign := re.search(r"GLOBAL (\S+) (?:was not an allowed global|whose module)", text):
        return f"it asks for {foreign[1][:80]}, and nothing but tensors and text is read"
    if not path.is_dir() and path.stat().st_size == 0:
        return "it is empty"
    if zipfile.is_zipfile(path) or "PytorchStreamReader" in text:
        return "it is damaged, or was cut short"
    return "it is no file of torch's, or holds more than tensors and text"


def exported(path: Path) -> tuple[dict[str, Tensor], str]:
    """The tensors and the settings, as YAML, of an exported model. Raises CheckpointRefused."""
    content = read(path)
    tensors, settings = content.get("best_state"), content.get("xp.cfg")
    if not isinstance(settings, str) or not isinstance(tensors, dict) or not _all_tensors(tensors):
        raise CheckpointRefused(f"{path} is not an exported checkpoint; {HOW_TO_EXPORT}")
    for name, tensor in tensors.items():
        if problem := _problem(tensor):
            raise CheckpointRefused(f"the tensor {name} {problem}; copy the checkpoint again, or export it again")
    return tensors, settings


def _all_tensors(values: dict[Any, Any]) -> bool:
    return bool(values) and all(isinstance(one, Tensor) for one in values.values())


def _problem(tensor: Tensor) -> str:
    """What makes a tensor unfit to be a weight; empty where nothing does. The first look takes no memory."""
    dense = tensor.layout is torch.strided and tensor.device.type == "cpu"
    if not dense or tensor.numel() * tensor.element_size() > tensor.untyped_storage().nbytes():
        return "does not hold its numbers one by one"
    if not tensor.is_floating_point():
        return f"holds no fractions but {str(tensor.dtype).removeprefix('torch.')}"
    return "" if bool(torch.isfinite(tensor.float()).all()) else "holds numbers that are not finite"
