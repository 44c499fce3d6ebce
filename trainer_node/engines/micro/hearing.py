"""What a model plays, heard: the shares of its clips that obey their prompts, and what its codec leaves to be heard."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from trainer_node.engines.micro import codec
from trainer_node.engines.musicgen.family import BaseModel
from trainer_node.engines.musicgen.sampling import Sampling, Wanted, play
from trainer_node.tunes import prompts
from trainer_node.tunes.listener import Heard, listen
from trainer_node.tunes.synth import render
from trainer_node.tunes.world import DURATION_S, VALUES, Attributes, draw

AS_THE_MODEL = Sampling(length_s=DURATION_S)  # as its generation_config.json says
_AT_ONCE = 64


@dataclass(frozen=True)
class Obedience:
    """How much of what was asked for is heard, 0 to 1. shares: of the clips, by attribute that was asked for; whole: of
    the clips that obey in everything; in_scale: of the notes; clips: how many there were."""

    shares: dict[str, float]
    whole: float
    in_scale: float
    clips: int


def obedience(heard: Sequence[Heard], wanted: Sequence[Attributes]) -> Obedience:
    """How many clips are as wanted, attribute by attribute."""
    right = [
        {name: found.attributes[name] == value for name, value in asked.items()}
        for found, asked in zip(heard, wanted, strict=True)
    ]
    return Obedience(
        shares={
            name: float(np.mean([row[name] for row in right if name in row]))
            for name in VALUES
            if any(name in row for row in right)
        },
        whole=float(np.mean([all(row.values()) for row in right])),
        in_scale=float(np.mean([found.in_scale for found in heard])),
        clips=len(heard),
    )


def codec_obedience(model: Any, *, clips: int, seed: int) -> tuple[Obedience, Obedience]:
    """What is heard of true tunes, and of the same after the codec: no model can play better than that."""
    random = np.random.default_rng(seed)
    tunes = [draw(random) for _ in range(clips)]
    true = torch.from_numpy(np.stack([render(tune) for tune in tunes]))
    after = codec.decode(model.audio_encoder, codec.encode(model.audio_encoder, true))[:, : true.shape[1]]
    wanted = [tune.attributes for tune in tunes]
    return obedience([listen(sound.numpy()) for sound in true], wanted), obedience(
        [listen(sound.numpy()) for sound in after], wanted
    )


def model_obedience(
    base: BaseModel, wanted: Sequence[Attributes], *, seed: int, sampling: Sampling = AS_THE_MODEL
) -> Obedience:
    """What is heard of one clip for each of the combinations of attributes that are asked for, in any words."""
    random = np.random.default_rng(seed)
    asked = [Wanted(prompts.write(random, attributes), seed + place) for place, attributes in enumerate(wanted)]
    parts = [asked[begin : begin + _AT_ONCE] for begin in range(0, len(asked), _AT_ONCE)]
    clips = [clip for part in parts for clip in play(base.model, base, part, sampling, lambda: False)]
    return obedience([listen(clip.sound_CN[0]) for clip in clips], wanted)
