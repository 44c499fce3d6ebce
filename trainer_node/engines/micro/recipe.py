"""From nothing to a base model that plays: tunes, a codec, a decoder. `hearing` tells what a listener hears of it.

Everything that the model learns from is synthesised here, so there is nothing of anybody else's in it. The same seed,
threads and versions give the same bytes; another machine comes to other ones.
"""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict, dataclass, field
from pathlib import Path

import torch
from transformers import EncodecModel

from trainer_node.durable import replace_file
from trainer_node.engines.micro import assembly, codec, decoder
from trainer_node.engines.micro.codec import CodecSettings, Tell
from trainer_node.engines.micro.decoder import DecoderSettings

MAKING = ".making"  # in the folder, while it is made: the codec, when it is done, is not trained again
MADE = "made.json"  # how
_CODEC, _SETTINGS = "codec", "settings.json"


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """All that decides a micro model, but for threads and versions."""

    codec: CodecSettings = field(default_factory=CodecSettings)
    decoder: DecoderSettings = field(default_factory=DecoderSettings)


def train_micro(folder: Path, recipe: Recipe, tell: Tell, *, threads: int = 1) -> float:
    """Make the model in `folder`; returns its validation loss, nats a token, which is in made.json as well.

    Killed and started again it goes on after the codec, if that was done.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        sound = _codec(folder / MAKING, recipe.codec, tell)
        torch.manual_seed(recipe.decoder.seed)
        model = assembly.assemble(sound)
        given = decoder.examples(model, recipe.decoder, tell)
        loss = decoder.train_decoder(model, given, recipe.decoder, tell)
        assembly.save(model, folder)
    finally:
        torch.set_num_threads(before)
    made = {"recipe": asdict(recipe), "threads": threads, "validation_loss": loss}
    replace_file(folder / MADE, (json.dumps(made, indent=2) + "\n").encode())
    shutil.rmtree(folder / MAKING)
    return loss


def _codec(place: Path, settings: CodecSettings, tell: Tell) -> EncodecModel:
    """The codec of an earlier start with the same settings, or a new one."""
    folder, stated = place / _CODEC, json.dumps(asdict(settings))
    if (place / _SETTINGS).is_file() and (place / _SETTINGS).read_text(encoding="utf-8") == stated:
        return EncodecModel.from_pretrained(folder)
    model = codec.train_codec(settings, tell)
    folder.mkdir(parents=True, exist_ok=True)
    model.save_pretrained(folder)
    replace_file(place / _SETTINGS, stated.encode())
    return model
