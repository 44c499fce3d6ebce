"""Previews: audio from set prompts with a set seed, so that two of them differ by the adapter alone."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from transformers import StoppingCriteria, StoppingCriteriaList
from transformers.modeling_outputs import BaseModelOutput

from trainer_node.engines.musicgen.family import BaseModel
from trainer_node.engines.musicgen.features import Stopped
from trainer_node.engines.musicgen.randomness import untouched_randomness
from trainer_node.training import StopRequested


class CachedText(torch.nn.Module):
    """Stands where T5 was and gives the states that were computed for each prompt; T5 can then be forgotten.

    `generate` ignores guidance, silently, when it is given encoder outputs; going through the text encoder it does not.
    """

    main_input_name = "input_ids"

    def __init__(self, base: BaseModel, states: Mapping[str, Tensor]) -> None:
        super().__init__()
        self.config = base.model.text_encoder.config
        self.decoder_like = [base.model.decoder]  # in a list, so that it is not registered as a part of this module
        self.states = {tuple(base.tokenizer(prompt).input_ids): text_LD for prompt, text_LD in states.items()}

    def get_output_embeddings(self) -> None:
        """What transformers asks every text encoder for; T5's encoder has none."""

    def get_input_embeddings(self) -> None:
        """What transformers asks for when activations are to be computed again; none are embedded here any more."""

    def forward(self, input_ids: Tensor, **_: object) -> BaseModelOutput:
        """The states of one unpadded prompt."""
        text_LD = self.states[tuple(input_ids[0].tolist())]
        decoder = self.decoder_like[0]
        return BaseModelOutput(last_hidden_state=text_LD[None].to(decoder.device, decoder.dtype))


class _StopBetweenTokens(StoppingCriteria):  # type: ignore[misc]  # transformers has no types
    def __init__(self, stop: StopRequested) -> None:
        self.stop = stop

    def __call__(self, input_ids: Tensor, scores: Tensor, **_: object) -> Tensor:
        if self.stop():
            raise Stopped
        return torch.zeros(len(input_ids), dtype=torch.bool, device=input_ids.device)


@torch.no_grad()
def generate(
    model: Any, base: BaseModel, prompt: str, *, length_s: float, seed: int, guidance_scale: float, stop: StopRequested
) -> NDArray[np.float32]:
    """sound_CN of one prompt. The same weights, prompt and seed give the same samples on the same device.

    The model's text encoder must be a CachedText that knows the prompt. Raises Stopped if asked to.
    """
    levels = base.model.config.decoder.num_codebooks // base.channels
    frames = max(math.ceil(length_s * base.frame_rate_hz), levels)  # transformers leaves the delay out below that
    tokens = base.tokenizer([prompt], return_tensors="pt").to(base.model.decoder.device)
    was_training = model.training
    model.eval()
    try:
        with untouched_randomness():
            torch.manual_seed(seed)
            sound = model.generate(
                input_ids=tokens.input_ids,
                attention_mask=tokens.attention_mask,
                max_new_tokens=frames + levels - 1,
                do_sample=True,
                guidance_scale=guidance_scale,
                stopping_criteria=StoppingCriteriaList([_StopBetweenTokens(stop)]),
            )
    finally:
        model.train(was_training)
    clip_CN: NDArray[np.float32] = sound[0].float().cpu().numpy()
    return clip_CN[:, : round(length_s * base.clip_hz)]
