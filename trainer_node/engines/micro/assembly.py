"""The parts put together: a MusicGen folder as `from_pretrained` reads it, of a codec, a text encoder and a decoder.

The tokenizer's vocabulary is written by hand, a piece a word, with letters for the rest: no trainer, the same anywhere.
Prompts are lower-case; what is not, falls to pieces of its own.
"""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import torch
from transformers import (
    EncodecFeatureExtractor,
    EncodecModel,
    GenerationConfig,
    MusicgenConfig,
    MusicgenDecoderConfig,
    MusicgenForConditionalGeneration,
    MusicgenProcessor,
    T5Config,
    T5Tokenizer,
)

from trainer_node.tunes import prompts
from trainer_node.tunes.world import FRAMES

WIDTH, FEED_FORWARD, LAYERS, HEADS = 128, 384, 4, 4  # of the decoder
TEXT_WIDTH, TEXT_LAYERS = 64, 2
TEMPERATURE, TOP_K, MIN_P = 0.6, 10, 0.1  # what the model is sampled with where nothing else is said
_FILL_WORDS = ["a", "an", "the", "with", "and", "of", "in", "very", "lead", "song", "please", "key", "tempo", "style"]
_LETTERS = "abcdefghijklmnopqrstuvwxyz0123456789-'"


def tokenizer() -> T5Tokenizer:
    """About a hundred pieces: the words of prompts, a few more, and letters."""
    words = sorted({*prompts.vocabulary(), *_FILL_WORDS})
    pieces = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0)]
    pieces += [("\u2581" + word, -3.0) for word in words]
    pieces += [("\u2581", -6.0), (",", -3.0), (".", -5.0), *((letter, -9.0) for letter in _LETTERS)]
    return T5Tokenizer(vocab=pieces, extra_ids=0)


def assemble(codec: EncodecModel) -> MusicgenForConditionalGeneration:
    """A MusicGen around a trained codec; text encoder and decoder are drawn from torch's generator."""
    codes, levels = codec.config.codebook_size, len(codec.quantizer.layers)
    text = T5Config(
        vocab_size=len(tokenizer()),
        d_model=TEXT_WIDTH,
        d_kv=16,
        d_ff=2 * TEXT_WIDTH,
        num_layers=TEXT_LAYERS,
        num_heads=4,
        feed_forward_proj="gated-gelu",
        dropout_rate=0.0,
    )
    decoder = MusicgenDecoderConfig(
        vocab_size=codes,
        hidden_size=WIDTH,
        ffn_dim=FEED_FORWARD,
        num_hidden_layers=LAYERS,
        num_attention_heads=HEADS,
        num_codebooks=levels,
        audio_channels=1,
        pad_token_id=codes,
        bos_token_id=codes,
        max_position_embeddings=512,
        dropout=0.0,
        initializer_factor=0.06,
    )
    config = MusicgenConfig(text_encoder=text, audio_encoder=codec.config, decoder=decoder)
    model = MusicgenForConditionalGeneration(config)
    model.audio_encoder.load_state_dict(codec.state_dict())
    for table in model.decoder.model.decoder.embed_tokens:
        torch.nn.init.normal_(table.weight, 0, 0.4)  # as strong as what is added to it
    model.generation_config = GenerationConfig(
        do_sample=True,
        top_k=TOP_K,
        temperature=TEMPERATURE,
        min_p=MIN_P,
        guidance_scale=1.0,
        max_length=FRAMES + levels,
        pad_token_id=codes,
        bos_token_id=codes,
        decoder_start_token_id=codes,
    )
    return model


def save(model: MusicgenForConditionalGeneration, folder: Path) -> None:
    """Write it as 16-bit numbers that are read as 32-bit ones: half the size, and loading needs no argument."""
    folder.mkdir(parents=True, exist_ok=True)
    copy.deepcopy(model).eval().half().save_pretrained(folder)
    rate_hz = model.config.audio_encoder.sampling_rate
    extractor = EncodecFeatureExtractor(feature_size=1, sampling_rate=rate_hz, padding_side="left")
    MusicgenProcessor(extractor, tokenizer()).save_pretrained(folder)
    path = folder / "config.json"
    config = _anywhere(json.loads(path.read_text(encoding="utf-8")))
    path.write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")


def _anywhere(config: Any) -> Any:
    """Read as 32-bit numbers, and without the folder that the codec was kept in."""
    if not isinstance(config, dict):
        return config
    return {
        key: "float32" if key in ("dtype", "torch_dtype") else _anywhere(value)
        for key, value in config.items()
        if key != "_name_or_path"
    }
