"""A recipe of a few steps: everything of a micro model but what it should have learnt."""

from __future__ import annotations

from trainer_node.engines.micro.codec import CodecSettings
from trainer_node.engines.micro.decoder import DecoderSettings
from trainer_node.engines.micro.recipe import Recipe

CODEC = CodecSettings(
    tunes=48, batch_size=8, crop_frames=12, plain_steps=40, quantised_steps=20, balanced_steps=5, polish_steps=10
)
DECODER = DecoderSettings(tunes=48, validation_tunes=16, steps=20, batch_size=8, warmup_steps=2)
SMALL = Recipe(codec=CODEC, decoder=DECODER)


class Told(list[tuple[str, int, int, float]]):
    """What was told of the way."""

    def __call__(self, phase: str, step: int, steps: int, loss: float) -> None:
        self.append((phase, step, steps, loss))
