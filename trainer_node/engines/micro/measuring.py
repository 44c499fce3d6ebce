"""By which numbers a micro model is judged: what is heard of true tunes, of its codec, and of what it plays."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from trainer_node.engines.micro import hearing
from trainer_node.engines.micro.codec import Tell
from trainer_node.engines.micro.hearing import AS_THE_MODEL, Obedience
from trainer_node.engines.musicgen.family import BaseModel
from trainer_node.engines.musicgen.sampling import Sampling
from trainer_node.tunes.world import combinations, held_out

PHASE = "measure"
CLIPS, SEED = 384, 2  # where nothing else is said; the sampling error of a share is then up to 2.6 points
GUIDANCE = 3.0  # what other MusicGen models are sampled with
STEPS = 4  # in which it is told of


@dataclass(frozen=True)
class Measured:
    """How far what was asked for is heard, each on as many clips; see hearing.Obedience.

    true: of tunes as the synthesiser plays them; codec: of the same after the codec, which a decoder can better by
    chance only; seen: of what the model plays for prompts that say all five attributes, in combinations that it was
    trained on; guided: the same with guidance 3; held_out: the same as `seen` in the 18 combinations that it was not
    trained on, for which it has to put together what it knows.
    """

    seed: int
    true: Obedience
    codec: Obedience
    seen: Obedience
    held_out: Obedience
    guided: Obedience

    @classmethod
    def of(cls, stored: Mapping[str, Any]) -> Measured:
        """What `dataclasses.asdict` made of one."""
        kinds = {name: Obedience(**found) for name, found in stored.items() if name != "seed"}
        return cls(seed=stored["seed"], **kinds)

    def rows(self) -> list[tuple[str, Obedience]]:
        """All of them with what they are of, for people."""
        return [
            ("true tunes", self.true),
            ("after the codec", self.codec),
            ("played, seen combinations", self.seen),
            ("played, held-out combinations", self.held_out),
            (f"played, seen combinations, guidance {GUIDANCE:g}", self.guided),
        ]


def measure(base: BaseModel, tell: Tell, *, clips: int = CLIPS, seed: int = SEED) -> Measured:
    """Hear `clips` clips of each kind; sampled as the model is where nothing else is said. 384 take two minutes."""
    kept_out = held_out()
    shown = [attributes for attributes in combinations() if attributes not in kept_out]

    def played(step: int, choice: Sequence[dict[str, str]], sampling: Sampling = AS_THE_MODEL) -> Obedience:
        wanted = chosen(choice, clips, seed)
        found = hearing.model_obedience(base, wanted, seed=seed, sampling=sampling)
        tell(PHASE, step, STEPS, math.nan)
        return found

    true, codec = hearing.codec_obedience(base.model, clips=clips, seed=seed)
    tell(PHASE, 1, STEPS, math.nan)
    return Measured(
        seed,
        true,
        codec,
        seen=played(2, shown),
        held_out=played(3, kept_out),
        guided=played(4, shown, replace(AS_THE_MODEL, guidance_scale=GUIDANCE)),
    )


def chosen(choice: Sequence[dict[str, str]], count: int, seed: int) -> list[dict[str, str]]:
    """`count` of them at random, none a second time before all others were taken."""
    order = np.random.default_rng(seed).permutation(len(choice))
    return [choice[order[place % len(choice)]] for place in range(count)]
