"""Adapters as folders, as PEFT writes them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from trainer_node.lora_targets import LORA_TARGETS
from tunesmith.v1 import job_spec_pb2

FFN = job_spec_pb2.LORA_TARGETS_ATTENTION_FFN


def peft_folder(folder: Path, **changes: Any) -> Path:
    """An adapter as PEFT writes it, its configuration changed."""
    folder.mkdir(parents=True)
    config = {
        "peft_type": "LORA", "base_model_name_or_path": "facebook/musicgen-small", "r": 8, "lora_alpha": 12,
        "lora_dropout": 0.1, "target_modules": LORA_TARGETS[FFN], "use_rslora": False, "rank_pattern": {},
    }  # fmt: skip
    (folder / "adapter_config.json").write_text(json.dumps(config | changes))
    (folder / "adapter_model.safetensors").write_bytes(b"matrices")
    return folder
