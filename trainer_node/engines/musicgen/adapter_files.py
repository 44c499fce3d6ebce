"""An adapter as tensors and as the two files that `PeftModel.from_pretrained` reads."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from peft import get_peft_model_state_dict, set_peft_model_state_dict
from torch import Tensor

from trainer_node import peft_folder
from trainer_node.engines import tensor_files


def tensors_of(model: Any) -> dict[str, Tensor]:
    """The adapter's tensors by PEFT's names, copied to the CPU."""
    tensors = get_peft_model_state_dict(model, save_embedding_layers=False)
    return {name: tensor.detach().to("cpu", copy=True).contiguous() for name, tensor in tensors.items()}


def put(model: Any, tensors: dict[str, Tensor]) -> bool:
    """Put tensors into a model's adapter; False, and nothing changed, where it has other layers or another rank."""
    expected = {name: tensor.shape for name, tensor in tensors_of(model).items()}
    if {name: tensor.shape for name, tensor in tensors.items()} != expected:
        return False
    set_peft_model_state_dict(model, tensors)
    return True


def write(folder: Path, model: Any, tensors: dict[str, Tensor]) -> None:
    """Write the adapter of a model, with these tensors in place of its own."""
    folder.mkdir(parents=True, exist_ok=True)
    tensor_files.write(folder / peft_folder.TENSORS, tensors)
    config = model.peft_config["default"]
    training, config.inference_mode = config.inference_mode, True
    config.save_pretrained(folder)
    config.inference_mode = training


def read(folder: Path) -> dict[str, Tensor]:
    """The tensors in a PEFT folder. Raises FileNotFoundError, or SafetensorError where the file is not whole."""
    return tensor_files.read(folder / peft_folder.TENSORS)
