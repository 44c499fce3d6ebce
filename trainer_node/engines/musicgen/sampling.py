"""Clips sampled from prompts, with the codes that they were decoded from.

Each clip draws from a generator of its own, seeded by its prompt and seed. So what a clip is does not depend on what
else is played beside it (but for the rounding of a larger product), and two players that are given the same seeds
differ by their weights alone.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from transformers import LogitsProcessor, LogitsProcessorList, StoppingCriteria, StoppingCriteriaList

from trainer_node.engines.musicgen.family import BaseModel
from trainer_node.engines.musicgen.features import Stopped
from trainer_node.training import StopRequested

_LOWEST = -1e9  # the score of what is not drawn; not −∞, of which no difference can be taken


@dataclass(frozen=True, kw_only=True)
class Sampling:
    """How clips are sampled; 0 takes what the model's generation_config.json says.

    length_s: of a clip. guidance_scale: 1 is off. temperature: above 1 is wilder. top_k: 1 always takes the likeliest.
    min_p: see _Plausible.
    """

    length_s: float
    guidance_scale: float = 0.0
    temperature: float = 0.0
    top_k: int = 0
    min_p: float = 0.0

    def of(self, base: BaseModel) -> Sampling:
        """The same with nothing left to the model."""
        own = base.model.generation_config
        return Sampling(
            length_s=self.length_s,
            guidance_scale=self.guidance_scale or float(own.guidance_scale or 1),
            temperature=self.temperature or float(own.temperature or 1),
            top_k=self.top_k or int(own.top_k or 0),
            min_p=self.min_p or float(own.min_p or 0),
        )


@dataclass(frozen=True)
class Wanted:
    """A clip to be played."""

    prompt: str
    seed: int


@dataclass(frozen=True)
class Played:
    """A clip that was played. sound_CN: at the codec's rate; codes_KT: int16, what it was decoded from."""

    prompt: str
    seed: int
    sound_CN: NDArray[np.float32]
    codes_KT: NDArray[np.int16]


@torch.no_grad()
def play(
    model: Any, base: BaseModel, wanted: Sequence[Wanted], sampling: Sampling, stop: StopRequested
) -> list[Played]:
    """All at once. model: the base model or an adapter on it. Raises Stopped between two steps if asked to."""
    sampling = sampling.of(base)
    levels = base.model.config.decoder.num_codebooks // base.channels
    frames = max(math.ceil(sampling.length_s * base.frame_rate_hz), levels)  # transformers needs as many for the delay
    tokens = base.tokenizer([one.prompt for one in wanted], padding=True, return_tensors="pt")
    device = base.model.decoder.device
    was_training = model.training
    model.eval()
    try:
        with _decoded(base) as codes:
            sound_BCN = model.generate(
                input_ids=tokens.input_ids.to(device),
                attention_mask=tokens.attention_mask.to(device),
                max_new_tokens=frames + levels - 1,
                do_sample=False,  # the draw is ours, see _Draw
                temperature=1.0,
                top_k=50,
                min_p=None,
                guidance_scale=sampling.guidance_scale,
                logits_processor=_DrawLast([_Plausible(sampling), _Draw(wanted, sampling)]),
                stopping_criteria=StoppingCriteriaList([_StopBetweenSteps(stop)]),
            )
    finally:
        model.train(was_training)
    samples = max(1, round(sampling.length_s * base.clip_hz))
    return [
        Played(one.prompt, one.seed, sound_CN[:, :samples], codes_KT)
        for one, sound_CN, codes_KT in zip(wanted, sound_BCN.float().cpu().numpy(), _interleaved(codes), strict=True)
    ]


def _interleaved(codes: list[Tensor]) -> NDArray[np.int16]:
    """codes_BKT of what was decoded: all codebooks at once, or in stereo those of the left, then those of the right."""
    channels = [codes_1BLT[0] for codes_1BLT in codes]
    codes_BKT = torch.stack(channels, 2).flatten(1, 2)  # in stereo L0 R0 L1 R1 …
    return codes_BKT.to(torch.int16).cpu().numpy()


@contextmanager
def _decoded(base: BaseModel) -> Iterator[list[Tensor]]:
    """The codes of each decoding inside: `generate` gives none."""
    kept: list[Tensor] = []
    codec = base.model.audio_encoder
    decode = codec.decode

    def keeping(audio_codes: Tensor, *args: Any, **kwargs: Any) -> Any:
        kept.append(audio_codes)
        return decode(audio_codes, *args, **kwargs)

    codec.decode = keeping
    try:
        yield kept
    finally:
        del codec.decode


class _Draw(LogitsProcessor):  # type: ignore[misc]  # transformers has no types
    """Makes the likeliest code a draw: its score with Gumbel noise added is the highest just as often as it would be
    drawn (Gumbel 1954; Maddison et al. 2014). So each clip has its own randomness, which a common draw has not."""

    def __init__(self, wanted: Sequence[Wanted], sampling: Sampling) -> None:
        self.sampling = sampling
        self.generators = [torch.Generator().manual_seed(_seed_of(one)) for one in wanted]

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """scores [B·K, V] of the next step."""
        scores = scores.float() / self.sampling.temperature
        if 0 < self.sampling.top_k < scores.shape[-1]:
            least = scores.topk(self.sampling.top_k, -1).values[..., -1:]
            scores = scores.masked_fill(scores < least, _LOWEST)
        shape = (len(scores) // len(self.generators), scores.shape[-1])
        uniform = torch.cat([torch.rand(shape, generator=generator) for generator in self.generators])
        noise = -(-uniform.clamp(min=1e-20).log()).clamp(min=1e-20).log()
        return scores + noise.to(scores.device)


class _Plausible(LogitsProcessor):  # type: ignore[misc]  # transformers has no types
    """Leaves out codes that are less likely than `min_p` of the likeliest, before guidance is applied.

    Guidance goes beyond what the model has learnt: where it is nearly certain of a code, a difference between two that
    are both next to impossible, multiplied, outweighs that. So guidance may choose only among what is plausible with
    the prompt (Li et al. 2023 found the same of contrastive decoding).
    """

    def __init__(self, sampling: Sampling) -> None:
        self.sampling = sampling

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """scores [B·K, V] of the next step; with guidance twice as many, first those with the prompt."""
        if not self.sampling.min_p:
            return scores
        guided = self.sampling.guidance_scale > 1
        with_prompt = scores[: len(scores) // 2] if guided else scores
        distance = math.log(self.sampling.min_p) * self.sampling.temperature
        left_out = with_prompt < with_prompt.amax(-1, keepdim=True) + distance
        return scores.masked_fill(torch.cat([left_out, left_out]) if guided else left_out, _LOWEST)


class _DrawLast(LogitsProcessorList):  # type: ignore[misc]  # transformers has no types
    """transformers puts guidance behind what it is given; the draw has to come after it."""

    def append(self, processor: LogitsProcessor) -> None:
        """Put it before the last."""
        self.insert(len(self) - 1, processor)


class _StopBetweenSteps(StoppingCriteria):  # type: ignore[misc]  # transformers has no types
    def __init__(self, stop: StopRequested) -> None:
        self.stop = stop

    def __call__(self, input_ids: Tensor, scores: Tensor, **_: object) -> Tensor:
        if self.stop():
            raise Stopped
        return torch.zeros(len(input_ids), dtype=torch.bool, device=input_ids.device)


def _seed_of(one: Wanted) -> int:
    """Prompts that share a seed do not share their noise."""
    return int.from_bytes(hashlib.sha256(f"{one.seed}:{one.prompt}".encode()).digest()[:8], "big") >> 1
