"""Which layers of a MusicGen decoder each choice of `lora_targets` takes, as PEFT's adapter_config.json says it.

Apart from the engine, since the settings of an adapter are told by it without loading PyTorch.
"""

from __future__ import annotations

from collections.abc import Mapping

from tunesmith.v1 import job_spec_pb2

_LAYER = r"decoder\.model\.decoder\.layers\.\d+\."
_ATTENTION = _LAYER + r"(self_attn|encoder_attn)\.(q_proj|k_proj|v_proj|out_proj)"
_FFN = _LAYER + r"(fc1|fc2)"
_REST = r"enc_to_dec_proj|decoder\.lm_heads\.\d+|decoder\.model\.decoder\.embed_tokens\.\d+"

# Anchored at the decoder, so that nothing in T5 or EnCodec can match.
LORA_TARGETS: Mapping[job_spec_pb2.LoraTargets, str] = {
    job_spec_pb2.LORA_TARGETS_ATTENTION: _ATTENTION,
    job_spec_pb2.LORA_TARGETS_ATTENTION_FFN: f"{_ATTENTION}|{_FFN}",
    job_spec_pb2.LORA_TARGETS_WIDE: f"{_ATTENTION}|{_FFN}|{_REST}",
}
