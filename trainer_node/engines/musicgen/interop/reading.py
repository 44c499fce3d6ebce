"""A checkpoint of audiocraft as a base model: its decoder, with the T5, EnCodec and tokenizer of another model."""

from __future__ import annotations

import copy
from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import Tensor
from transformers import MusicgenForConditionalGeneration

from trainer_node import preflight
from trainer_node.engines.musicgen import family
from trainer_node.engines.musicgen.family import BaseModel
from trainer_node.engines.musicgen.interop import checkpoint_files, codec, decoder, settings
from trainer_node.engines.musicgen.interop.errors import CheckpointRefused
from trainer_node.engines.musicgen.interop.settings import DecoderSettings

_SIZES = {1024: "small", 1536: "medium", 2048: "large"}  # Meta's models, by the width of their decoder
_THEIR_CODEC = "facebook/encodec_32khz"  # named, rather than held, by checkpoints that audiocraft's recipes make


def read(source: Path, *, like: str, models_dir: Path) -> tuple[BaseModel, str]:
    """The base model that a checkpoint makes, and the name of the model that it was found to be like.

    source: an exported state_dict.bin, or the folder that holds it; a codec beside it is taken, too. like: see
    preflight.find_base_model; by the checkpoint's size where it is empty. Raises CheckpointRefused,
    BaseModelUnavailable.
    """
    file = source / checkpoint_files.DECODER if source.is_dir() else source
    tensors, text = checkpoint_files.exported(file)
    wanted = settings.read(text)
    like = like or guess(wanted)
    converted = decoder.to_transformers(tensors, layers=wanted.layers, codebooks=wanted.codebooks)
    del tensors
    _require_sizes(converted, wanted)
    model = family.load_base(preflight.find_base_model(models_dir, like), name=like)
    _require_codec(model, wanted, like)
    model = _with_decoder(model, wanted, converted)
    codec_file = file.with_name(checkpoint_files.CODEC)
    if codec_file.is_file():
        _put_codec(model, codec_file)
    return model, like


def _require_sizes(tensors: dict[str, Tensor], wanted: DecoderSettings) -> None:
    """Raises CheckpointRefused where the settings tell of another decoder, which would be built, than the tensors."""
    if wanted.width % wanted.heads:
        what = f"its width, {wanted.width}, cannot be parted into {wanted.heads} heads; export it again"
        raise CheckpointRefused(f"the settings of the checkpoint are wrong: {what}")
    layers = "decoder.model.decoder."
    sizes = {
        "feed-forward layers": (f"{layers}layers.0.fc1.weight", (wanted.inner, wanted.width)),
        "embeddings": (f"{layers}embed_tokens.0.weight", (wanted.codebook_size + 1, wanted.width)),
    }
    for what, (name, size) in sizes.items():
        if tuple(tensors[name].shape) != size:
            raise CheckpointRefused(
                f"the checkpoint's {what} are of {tuple(tensors[name].shape)}, not {size} as its settings say; "
                "export it again"
            )


def guess(wanted: DecoderSettings) -> str:
    """The Hugging Face id of Meta's model with a decoder of that size. Raises CheckpointRefused."""
    if wanted.width not in _SIZES:
        raise CheckpointRefused(
            f"no model of Meta's has a decoder of width {wanted.width}, so T5, EnCodec and tokenizer cannot be "
            "guessed; name with --like a MusicGen folder or Hugging Face id that has them"
        )
    return f"facebook/musicgen-{'stereo-' * (wanted.channels == 2)}{_SIZES[wanted.width]}"


def _require_codec(model: BaseModel, wanted: DecoderSettings, like: str) -> None:
    """Raises CheckpointRefused where the codes of the checkpoint are not those of the model's codec."""
    config = model.model.config.audio_encoder
    has = (config.sampling_rate, config.codebook_size, config.num_quantizers)
    needs = (wanted.sample_rate_hz, wanted.codebook_size, wanted.codebooks // wanted.channels)
    if has != needs:
        raise CheckpointRefused(
            "the checkpoint was trained on codes of {} Hz, {} entries and {} codebooks, ".format(*needs)
            + "the codec of {} makes codes of {} Hz, {} entries and {} codebooks; ".format(like, *has)
            + "name with --like a MusicGen model with such a codec"
        )


def _with_decoder(base: BaseModel, wanted: DecoderSettings, tensors: dict[str, Tensor]) -> BaseModel:
    """The model with the checkpoint's decoder."""
    config = base.model.config.decoder
    sizes = {
        "hidden_size": wanted.width,
        "num_attention_heads": wanted.heads,
        "num_hidden_layers": wanted.layers,
        "ffn_dim": wanted.inner,
        "num_codebooks": wanted.codebooks,
        "vocab_size": wanted.codebook_size,
        "audio_channels": wanted.channels,
    }
    if any(getattr(config, name) != size for name, size in sizes.items()):
        base = replace(base, model=_resized(base.model, sizes))
    state = base.model.state_dict()
    if not hasattr(base.model, "enc_to_dec_proj"):
        tensors = decoder.without_identity(tensors)
    for name, tensor in tensors.items():
        if name not in state or state[name].shape != tensor.shape:
            has = tuple(state[name].shape) if name in state else "none"
            raise CheckpointRefused(
                f"a tensor of the checkpoint has the shape {tuple(tensor.shape)} where the model has {has} ({name}); "
                f"the text encoder is {wanted.text_encoder}, so name with --like a MusicGen model that has it"
            )
    base.model.load_state_dict(tensors, strict=False)
    return base


def _resized(old: Any, sizes: dict[str, int]) -> MusicgenForConditionalGeneration:
    """The same T5 and EnCodec around a decoder of another size, whose weights have no meaning yet."""
    config = copy.deepcopy(old.config)
    for name, size in sizes.items():
        setattr(config.decoder, name, size)
    new = MusicgenForConditionalGeneration(config).eval()
    new.text_encoder.load_state_dict(old.text_encoder.state_dict())
    new.audio_encoder.load_state_dict(old.audio_encoder.state_dict())
    new.generation_config = old.generation_config
    return new


def _put_codec(model: BaseModel, file: Path) -> None:
    """Take the codec that lies beside the decoder; where it is only named, it has to be Meta's, as the model's is."""
    content = checkpoint_files.read(file)
    if "pretrained" in content:
        if content["pretrained"] != _THEIR_CODEC:
            raise CheckpointRefused(
                f"the checkpoint names the codec {content['pretrained']}, and only {_THEIR_CODEC} is known; where the "
                f"model of --like has that codec, move {file.name} out of the folder"
            )
        return
    tensors, text = checkpoint_files.exported(file)
    codec.put(model.model.audio_encoder, tensors, settings.sample_rate_hz(text))
