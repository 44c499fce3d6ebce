"""From nothing to a base model that plays: tunes, a codec, a decoder. `hearing` tells what a listener hears of it.

Everything that the model learns from is synthesised here, so there is nothing of anybody else's in it. The same seed,
threads and versions give the same bytes; another machine comes to other ones.
"""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

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

    @property
    def steps(self) -> dict[str, int]:
        """How many steps each phase has, in their order; a step of `encode` is a tune."""
        return {phase: getattr(self.codec, f"{phase}_steps") for phase in codec.PHASES} | {
            "encode": self.decoder.tunes + self.decoder.validation_tunes,
            "decoder": self.decoder.steps,
        }


def train_micro(folder: Path, recipe: Recipe, tell: Tell, *, threads: int = 1) -> float:
    """Make the model in `folder`; returns its validation loss, nats a token, which is in made.json as well.

    Killed and started again it goes on after the codec, if that was done.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        sound = _codec(folder, recipe.codec, tell)
        torch.manual_seed(recipe.decoder.seed)
        model = assembly.assemble(sound)
        given = decoder.examples(model, recipe.decoder, tell)
        loss = decoder.train_decoder(model, given, recipe.decoder, tell)
        assembly.save(model, folder)
    finally:
        torch.set_num_threads(before)
    made = _stated(recipe, threads) | {"validation_loss": loss}
    replace_file(folder / MADE, (json.dumps(made, indent=2) + "\n").encode())
    shutil.rmtree(folder / MAKING)
    return loss


def is_made(folder: Path, recipe: Recipe, *, threads: int) -> bool:
    """Whether `folder` holds the whole model that this recipe gives with so many threads."""
    try:
        made = json.loads((folder / MADE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return not (folder / MAKING).exists() and _stated(recipe, threads).items() <= made.items()


def codec_is_kept(folder: Path, settings: CodecSettings) -> bool:
    """Whether a training that was interrupted in `folder` goes on after the codec."""
    path = folder / MAKING / _SETTINGS
    return path.is_file() and path.read_text(encoding="utf-8") == _as_kept(settings)


def _stated(recipe: Recipe, threads: int) -> dict[str, Any]:
    return {"recipe": asdict(recipe), "threads": threads}


def _codec(folder: Path, settings: CodecSettings, tell: Tell) -> EncodecModel:
    """The codec of an earlier start with the same settings, or a new one; read from disk in both cases."""
    place = folder / MAKING
    if not codec_is_kept(folder, settings):
        model = codec.train_codec(settings, tell)
        place.mkdir(parents=True, exist_ok=True)
        (place / _SETTINGS).unlink(missing_ok=True)  # or those of another codec would vouch for this one
        model.save_pretrained(place / _CODEC)
        replace_file(place / _SETTINGS, _as_kept(settings).encode())
    return EncodecModel.from_pretrained(place / _CODEC)


def _as_kept(settings: CodecSettings) -> str:
    return json.dumps(asdict(settings))
