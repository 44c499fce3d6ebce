"""The two files of an adapter's folder, by PEFT's names; no PyTorch."""

from __future__ import annotations

CONFIG = "adapter_config.json"
TENSORS = "adapter_model.safetensors"
