"""The decoder under both names: transformers' MusicgenForConditionalGeneration and audiocraft's LMModel.

The numbers are the same; audiocraft stacks the projections of query, key and value, and keeps the projection of the
text states in its conditioner. Neither keeps the sinusoidal positions, which are computed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import torch
from torch import Tensor

from trainer_node.engines.musicgen.interop.errors import CheckpointRefused

_TEXT = "condition_provider.conditioners.description.output_proj."
_ATTENTION = {"self_attn": "self_attn", "encoder_attn": "cross_attention"}
_REST_OF_LAYER = {
    "fc1.weight": "linear1.weight",
    "fc2.weight": "linear2.weight",
    "self_attn_layer_norm.weight": "norm1.weight",
    "self_attn_layer_norm.bias": "norm1.bias",
    "encoder_attn_layer_norm.weight": "norm_cross.weight",
    "encoder_attn_layer_norm.bias": "norm_cross.bias",
    "final_layer_norm.weight": "norm2.weight",
    "final_layer_norm.bias": "norm2.bias",
}


def _names(*, layers: int, codebooks: int) -> Iterator[tuple[tuple[str, ...], str]]:
    """(transformers' names, audiocraft's name) of every tensor; where there are three, they are stacked there."""
    for part in ("weight", "bias"):
        yield (f"enc_to_dec_proj.{part}",), f"{_TEXT}{part}"
        yield (f"decoder.model.decoder.layer_norm.{part}",), f"out_norm.{part}"
    for k in range(codebooks):
        yield (f"decoder.model.decoder.embed_tokens.{k}.weight",), f"emb.{k}.weight"
        yield (f"decoder.lm_heads.{k}.weight",), f"linears.{k}.weight"
    for i in range(layers):
        ours, theirs = f"decoder.model.decoder.layers.{i}.", f"transformer.layers.{i}."
        for here, there in _ATTENTION.items():
            stacked = tuple(f"{ours}{here}.{letter}_proj.weight" for letter in "qkv")
            yield stacked, f"{theirs}{there}.in_proj_weight"
            yield (f"{ours}{here}.out_proj.weight",), f"{theirs}{there}.out_proj.weight"
        for here, there in _REST_OF_LAYER.items():
            yield (f"{ours}{here}",), f"{theirs}{there}"


def to_audiocraft(tensors: Mapping[str, Tensor], *, layers: int, codebooks: int, width: int) -> dict[str, Tensor]:
    """audiocraft's tensors from transformers' state; those of T5 and EnCodec are passed over.

    width: of the decoder. Where T5's states are just as wide, transformers has no projection; audiocraft gets one that
    changes nothing.
    """
    known = {**_identity(width), **tensors}
    return {
        theirs: known[ours[0]] if len(ours) == 1 else torch.cat([known[name] for name in ours])
        for ours, theirs in _names(layers=layers, codebooks=codebooks)
    }


def _identity(width: int) -> dict[str, Tensor]:
    return {"enc_to_dec_proj.weight": torch.eye(width), "enc_to_dec_proj.bias": torch.zeros(width)}


def without_identity(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """transformers' tensors without a projection of the text states that changes nothing."""
    identity = _identity(len(tensors["enc_to_dec_proj.bias"]))
    if all(torch.equal(tensors[name], tensor) for name, tensor in identity.items()):
        return {name: tensor for name, tensor in tensors.items() if name not in identity}
    return dict(tensors)


def to_transformers(tensors: Mapping[str, Tensor], *, layers: int, codebooks: int) -> dict[str, Tensor]:
    """transformers' tensors, in 32 bits, from audiocraft's.

    Raises CheckpointRefused where some are missing or foreign.
    """
    left = {name.replace(".mha.", "."): tensor for name, tensor in tensors.items()}  # attention by torch's own module
    converted: dict[str, Tensor] = {}
    for ours, theirs in _names(layers=layers, codebooks=codebooks):
        if theirs not in left:
            raise CheckpointRefused(f"the checkpoint has no tensor {theirs}; export it again, or copy it again")
        stacked = left.pop(theirs)
        if len(ours) > 1 and (not stacked.ndim or len(stacked) % len(ours)):
            raise CheckpointRefused(
                f"the tensor {theirs} is of {tuple(stacked.shape)}, which cannot be parted into {len(ours)}; "
                "export the checkpoint again, or copy it again"
            )
        parts = stacked.float().chunk(len(ours)) if len(ours) > 1 else (stacked.float(),)
        converted.update(zip(ours, parts, strict=True))
    if left:
        names = ", ".join(sorted(left)[:3])
        raise CheckpointRefused(
            f"the checkpoint has {len(left)} tensors that a decoder of text to music does not have, such as {names}; "
            "models of melody, style or other conditions cannot be imported"
        )
    return converted
