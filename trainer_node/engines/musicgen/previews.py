"""Previews: audio from set prompts with a set seed, so that two of them differ by the adapter alone."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from transformers.modeling_outputs import BaseModelOutput

from trainer_node.engines.musicgen.family import BaseModel
from trainer_node.engines.musicgen.randomness import untouched_randomness
from trainer_node.engines.musicgen.sampling import Played, Sampling, Wanted, play
from trainer_node.training import StopRequested
from tunesmith.v1 import job_spec_pb2


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


def preview(
    model: Any, base: BaseModel, prompt: str, settings: job_spec_pb2.PreviewSettings, stop: StopRequested
) -> Played:
    """One prompt as the settings say. The same weights and settings give the same samples on the same device.

    The model's text encoder must be a CachedText that knows the prompt. Raises Stopped if asked to.
    """
    sampling = Sampling(length_s=settings.preview_s, guidance_scale=settings.preview_guidance_scale)
    with untouched_randomness():
        [played] = play(model, base, [Wanted(prompt, settings.preview_seed)], sampling, stop)
    return played
