"""What a training starts from: fresh LoRA matrices on the base model, or those of an adapter."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import transformers
from safetensors import SafetensorError
from torch import Tensor

from trainer_node.engines.musicgen import adapter_files, family, fingerprints
from trainer_node.engines.musicgen.family import BaseModel
from trainer_node.engines.musicgen.preparation import Prepared, Settings
from trainer_node.errors import StartAdapterUnsuitable
from trainer_node.start_adapter import settings_in
from trainer_node.training import TrainingJob
from tunesmith.v1 import job_spec_pb2


def begin(job: TrainingJob, prepared: Prepared, settings: Settings) -> tuple[Any, str]:
    """The model to train, and the fingerprint of the adapter that it starts from, empty where it starts afresh.

    Raises StartAdapterUnsuitable where the adapter to start from cannot be read, was trained on another base model, or
    has not the rank and layers of the settings.
    """
    base, folder = prepared.base, job.start_adapter_dir
    require_base(job.job.start_adapter.base_model_fingerprint, prepared.identity["base_model"])
    transformers.set_seed(settings.training.seed)
    model = family.add_lora(base, settings.adapter, dtype=prepared.device.dtype)
    if folder is None:
        return model, ""
    return model, fingerprints.of_tensors(take_over(model, base, folder, settings.adapter))


def with_adapter(base: BaseModel, folder: Path, *, dtype: torch.dtype) -> Any:
    """The base model with the adapter of a PEFT folder on it. dtype: of the decoder. Raises StartAdapterUnsuitable."""
    shape = settings_in(folder)
    model = family.add_lora(base, shape, dtype=dtype)
    take_over(model, base, folder, shape)
    return model


def take_over(
    model: Any, base: BaseModel, folder: Path, settings: job_spec_pb2.AdapterSettings
) -> Mapping[str, Tensor]:
    """Put the adapter of a folder into a model, whose matrices are as the settings say; returns its tensors.

    Raises StartAdapterUnsuitable where it cannot be read or has another shape.
    """
    try:
        tensors = adapter_files.read(folder)
    except (OSError, SafetensorError) as error:
        what = f"the adapter to start from cannot be read ({type(error).__name__}); fetch or export it again"
        raise StartAdapterUnsuitable(what) from error
    if not adapter_files.put(model, tensors):
        raise StartAdapterUnsuitable(
            f"the adapter to start from has other layers or another rank than lora_r {settings.lora_r} on "
            f"{base.name}; leave lora_r, lora_targets and base_model out to take its own"
        )
    return tensors


def require_base(trained_on: str, actual: str) -> None:
    """Both are fingerprints; where the first is empty, nothing is known of the adapter's.

    Raises StartAdapterUnsuitable where the adapter was trained on another base model.
    """
    if trained_on and trained_on != actual:
        raise StartAdapterUnsuitable(
            "the adapter to start from was trained on another base model: its weights had the fingerprint "
            f"{trained_on[:12]}…, these have {actual[:12]}…; give the base model that it was trained on"
        )
