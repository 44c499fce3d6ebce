"""EnCodec under both names: transformers' EncodecModel and audiocraft's EncodecModel of SEANet and residual codebooks.

The layers stand in the same order and hold the same numbers; audiocraft wraps each convolution twice, and writes weight
normalisation by its old names.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from torch import Tensor
from transformers.models.encodec import modeling_encodec

from trainer_node.engines.musicgen.interop.errors import CheckpointRefused, ExportRefused

_WEIGHTS = {
    "conv.parametrizations.weight.original0": "weight_g",
    "conv.parametrizations.weight.original1": "weight_v",
    "conv.weight": "weight",
    "conv.bias": "bias",
}


def _names(codec: Any) -> Iterator[tuple[str, str]]:
    """(transformers' name, audiocraft's name) of every tensor of the codec."""
    wrappers = {modeling_encodec.EncodecConv1d: "conv", modeling_encodec.EncodecConvTranspose1d: "convtr"}
    wrapped = {name: wrappers[type(part)] for name, part in codec.named_modules() if type(part) in wrappers}
    for name in codec.state_dict():
        theirs = name.replace(".layers.", ".model.", 1)
        if name.startswith("quantizer."):
            yield name, name.replace("quantizer.layers.", "quantizer.vq.layers.").replace(".codebook.", "._codebook.")
        elif owner := next((one for one in _owners(name) if one in wrapped), None):
            wrapper, rest = wrapped[owner], name.removeprefix(f"{owner}.")
            inner = f"{wrapper}.{_WEIGHTS[rest]}" if rest in _WEIGHTS else rest
            yield name, f"{theirs.removesuffix(rest)}{wrapper}.{inner}"
        else:
            yield name, theirs


def _owners(name: str) -> Iterator[str]:
    """The modules that a tensor is part of, innermost first."""
    while "." in name:
        name = name.rpartition(".")[0]
        yield name


def to_audiocraft(codec: Any) -> dict[str, Tensor]:
    """audiocraft's tensors of a codec of transformers."""
    state = codec.state_dict()
    return {theirs: state[ours] for ours, theirs in _names(codec)}


def settings(codec: Any, *, levels: int) -> dict[str, object]:
    """What audiocraft builds such a codec from. levels: codebooks that the decoder uses of each channel.

    Raises ExportRefused where audiocraft has no such codec.
    """
    config = codec.config
    if config.chunk_length_s is not None or config.audio_channels != 1 or config.num_quantizers != levels:
        raise ExportRefused(
            f"the codec works in chunks, in stereo or with {config.num_quantizers} codebooks where the decoder has "
            f"{levels}, which audiocraft's MusicGen does not; export with --format merged instead"
        )
    seanet = {
        "dimension": config.hidden_size,
        "channels": config.audio_channels,
        "causal": config.use_causal_conv,
        "n_filters": config.num_filters,
        "n_residual_layers": config.num_residual_layers,
        "ratios": list(config.upsampling_ratios),
        "activation": "ELU",
        "activation_params": {"alpha": 1.0},
        "norm": config.norm_type,
        "norm_params": {},
        "kernel_size": config.kernel_size,
        "residual_kernel_size": config.residual_kernel_size,
        "last_kernel_size": config.last_kernel_size,
        "dilation_base": config.dilation_growth_rate,
        "pad_mode": config.pad_mode,
        "true_skip": not config.use_conv_shortcut,
        "compress": config.compress,
        "lstm": config.num_lstm_layers,
        "disable_norm_outer_blocks": 0,
        "encoder": {},
        "decoder": {
            "trim_right_ratio": config.trim_right_ratio,
            "final_activation": None,
            "final_activation_params": None,
        },
    }
    return {
        "device": "cpu",
        "sample_rate": config.sampling_rate,
        "channels": config.audio_channels,
        "compression_model": "encodec",
        "encodec": {
            "autoencoder": "seanet",
            "quantizer": "rvq",
            "sample_rate": config.sampling_rate,
            "channels": config.audio_channels,
            "causal": config.use_causal_conv,
            "renormalize": config.normalize,
        },
        "seanet": seanet,
        "rvq": {"n_q": levels, "bins": config.codebook_size, "q_dropout": False, "kmeans_init": False},
    }


def put(codec: Any, tensors: Mapping[str, Tensor], sample_rate_hz: int) -> None:
    """Put audiocraft's tensors into a codec of transformers. Raises CheckpointRefused where it has another shape."""
    names = dict(_names(codec))
    state = codec.state_dict()
    wanted = {names[name]: tuple(tensor.shape) for name, tensor in state.items()}
    given = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    differing = sorted(name for name in wanted.keys() | given.keys() if wanted.get(name) != given.get(name))
    if differing or sample_rate_hz != codec.config.sampling_rate:
        example = f", such as {differing[0]}" if differing else ""
        raise CheckpointRefused(
            f"the checkpoint's codec is not built as that of the model to be like: {len(differing)} tensors differ"
            f"{example}; its rate is {sample_rate_hz} Hz, the other's {codec.config.sampling_rate} Hz; name with "
            "--like a MusicGen model with such a codec"
        )
    codec.load_state_dict({ours: tensors[theirs].float() for ours, theirs in names.items()})
