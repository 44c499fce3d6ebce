"""A MusicGen model as the folder that audiocraft's own `MusicGen.get_pretrained` loads."""

from __future__ import annotations

from pathlib import Path

import yaml

from trainer_node.engines.musicgen.family import BaseModel
from trainer_node.engines.musicgen.interop import checkpoint_files, codec, decoder, settings, text_encoder


def write(base: BaseModel, folder: Path, *, text_encoder_name: str = "") -> str:
    """Write decoder and codec of a model, in 32 bits, into a folder that exists; its adapters are merged already.

    text_encoder_name: by which audiocraft fetches T5; found by T5's shape where it is empty. Returns the name.
    Raises ExportRefused where audiocraft has no such model; nothing is written then.
    """
    model = base.model
    config = model.config
    name = text_encoder.name_for(config.text_encoder, text_encoder_name)
    decoder_settings = settings.text_of(config, name)
    codec_settings = codec.settings(model.audio_encoder, levels=config.decoder.num_codebooks // base.channels)
    tensors = decoder.to_audiocraft(
        model.state_dict(),
        layers=config.decoder.num_hidden_layers,
        codebooks=config.decoder.num_codebooks,
        width=config.decoder.hidden_size,
    )
    checkpoint_files.write(folder / checkpoint_files.DECODER, tensors, decoder_settings)
    codec_tensors = codec.to_audiocraft(model.audio_encoder)
    codec_yaml = yaml.safe_dump(codec_settings, sort_keys=False)
    checkpoint_files.write(folder / checkpoint_files.CODEC, codec_tensors, codec_yaml)
    return name
