"""Adapters that nobody trained: random matrices on a base model, strong enough to be heard."""

from __future__ import annotations

from pathlib import Path

import torch

from trainer_node import report
from trainer_node.engines.musicgen import adapter_files, family
from trainer_node.engines.musicgen.export import Adapter
from tunesmith import spec as specs
from tunesmith.v1 import job_event_pb2, job_spec_pb2


def random_adapter(model: Path, folder: Path, *, name: str = "") -> Adapter:
    """An adapter of every layer on a base model, in a PEFT folder as a training leaves it. name: of the base model."""
    base = family.load_base(model, name=name or model.name)
    settings = job_spec_pb2.AdapterSettings(
        base_model=base.name, lora_r=4, lora_alpha=8, lora_targets="LORA_TARGETS_WIDE"
    )
    spec = specs.resolve(job_spec_pb2.JobSpec(supervised=job_spec_pb2.SupervisedSpec(adapter=settings)))
    config = job_event_pb2.TrainingConfig(spec=spec, base_model_fingerprint=base.fingerprint())
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(7)
        peft = family.add_lora(base, settings, dtype=torch.float32)
        tensors = {key: torch.randn(value.shape) * 0.06 for key, value in adapter_files.tensors_of(peft).items()}
    adapter_files.write(folder, peft, tensors)
    report.write_json(folder / report.CONFIG, config)
    return Adapter(folder=folder, config=config)
