"""The language model of codes: text encoder and decoder, trained together on tunes and prompts that describe them.

A token inside a note costs 0.01 nats, the first of a note 0.5 to 1.1: what matters is 5 % of the loss. So beginnings of
notes weigh more. A fixed weight for each position leaves the best answer what it is, and gets there in half the steps.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from transformers import MusicgenForConditionalGeneration

from trainer_node.engines.micro import codec
from trainer_node.engines.micro.assembly import tokenizer
from trainer_node.engines.micro.codec import Tell
from trainer_node.engines.musicgen.codes import IGNORE, delay
from trainer_node.engines.musicgen.family import Batch, score
from trainer_node.engines.musicgen.losses import token_nll
from trainer_node.tunes import prompts
from trainer_node.tunes.synth import render
from trainer_node.tunes.world import TEMPI, Tune, draw, held_out

_ENCODED_AT_ONCE = 256


@dataclass(frozen=True, kw_only=True)
class DecoderSettings:
    """How text encoder and decoder are trained. leave_out: how probable it is that a prompt does not say an attribute;
    null_prompts: share of examples without a prompt, which guidance needs; onset_weight: of the beginning of a note."""

    seed: int = 0
    tunes: int = 16_000
    validation_tunes: int = 128
    steps: int = 10_000
    batch_size: int = 24
    learning_rate: float = 2e-3
    warmup_steps: int = 60
    weight_decay: float = 0.02
    leave_out: float = 0.15
    null_prompts: float = 0.1
    onset_weight: float = 12.0


@dataclass(frozen=True)
class Examples:
    """Tunes with their codes. labels_MKS: delayed; weights_MKS: of each position, 1 or more."""

    tunes: Sequence[Tune]
    labels_MKS: Tensor
    weights_MKS: Tensor


def examples(model: MusicgenForConditionalGeneration, settings: DecoderSettings, tell: Tell) -> Examples:
    """Tunes at random, none of a combination that is held out, encoded by the model's codec."""
    random, kept_out = np.random.default_rng(settings.seed + 7), held_out()
    tunes: list[Tune] = []
    while len(tunes) < settings.tunes + settings.validation_tunes:
        tune = draw(random)
        if tune.attributes not in kept_out:
            tunes.append(tune)
    labels, weights = [], []
    for begin in range(0, len(tunes), _ENCODED_AT_ONCE):
        part = tunes[begin : begin + _ENCODED_AT_ONCE]
        codes_MKT = codec.encode(model.audio_encoder, torch.from_numpy(np.stack([render(tune) for tune in part])))
        labels += [delay(codes_KT, channels=1) for codes_KT in codes_MKT]
        weights += [_weights(tune, labels[-1].shape, settings.onset_weight) for tune in part]
        tell("encode", begin + len(part), len(tunes), math.nan)
    return Examples(tunes, torch.stack(labels).to(torch.int16), torch.stack(weights).to(torch.bfloat16))


def train_decoder(
    model: MusicgenForConditionalGeneration, given: Examples, settings: DecoderSettings, tell: Tell
) -> float:
    """Train text encoder and decoder in place; the codec stays. Returns the validation loss, nats a token."""
    torch.manual_seed(settings.seed)
    generator, random = torch.Generator().manual_seed(settings.seed), np.random.default_rng(settings.seed)
    model.audio_encoder.requires_grad_(False)
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(
        parameters, lr=settings.learning_rate, betas=(0.9, 0.98), weight_decay=settings.weight_decay
    )
    model.train()
    model.audio_encoder.eval()
    pieces, recent = tokenizer(), []
    for step in range(1, settings.steps + 1):
        for group in optimizer.param_groups:
            group["lr"] = settings.learning_rate * _rate_share(step, settings)
        chosen = torch.randint(settings.tunes, (settings.batch_size,), generator=generator)
        said = [
            prompts.write(random, given.tunes[number].attributes, leave_out=settings.leave_out)
            for number in chosen.tolist()
        ]
        batch = _batch(model, pieces, said, given.labels_MKS[chosen])
        without_B = torch.rand(settings.batch_size, generator=generator) < settings.null_prompts
        nll_BKS = token_nll(score(model, batch, without_prompt_B=without_B), batch["labels_BKS"])
        weights_BKS = given.weights_MKS[chosen].float()
        loss = ((nll_BKS * weights_BKS).sum((0, 2)) / weights_BKS.sum((0, 2))).mean()
        optimizer.zero_grad(set_to_none=True)
        torch.autograd.backward(loss)
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        recent.append(loss.item())
        if step % 50 == 0 or step == settings.steps:
            tell("decoder", step, settings.steps, sum(recent) / len(recent))
            recent.clear()
    return validation_loss(model, given, settings)


@torch.no_grad()
def validation_loss(model: MusicgenForConditionalGeneration, given: Examples, settings: DecoderSettings) -> float:
    """Mean nats a token, unweighted, of the tunes that were kept back, with prompts that say everything."""
    model.eval()
    random, pieces = np.random.default_rng(settings.seed + 11), tokenizer()
    losses = []
    for numbers in torch.split(torch.arange(settings.tunes, len(given.tunes)), 32):
        said = [prompts.write(random, given.tunes[number].attributes) for number in numbers.tolist()]
        batch = _batch(model, pieces, said, given.labels_MKS[numbers])
        nll_BKS = token_nll(score(model, batch), batch["labels_BKS"])
        losses.append(float(nll_BKS.sum() / (batch["labels_BKS"] != IGNORE).sum()))
    return sum(losses) / len(losses)


def _batch(model: MusicgenForConditionalGeneration, pieces: object, said: list[str], labels_BKS: Tensor) -> Batch:
    tokens = pieces(said, return_tensors="pt", padding=True)  # type: ignore[operator]  # transformers has no types
    states = model.text_encoder(input_ids=tokens.input_ids, attention_mask=tokens.attention_mask).last_hidden_state
    return Batch(text_BLD=states, mask_BL=tokens.attention_mask, labels_BKS=labels_BKS.long())


def _weights(tune: Tune, shape: torch.Size, onset_weight: float) -> Tensor:
    """weights_KS: `onset_weight` where a note begins (delayed as the codes are), 0 where there is no target, else 1."""
    weights_KS = torch.ones(shape)
    levels, steps = shape
    for level in range(levels):
        weights_KS[level, level :: TEMPI[tune.tempo]] = onset_weight
        weights_KS[level, :level] = 0
        weights_KS[level, steps - levels + 1 + level :] = 0
    return weights_KS


def _rate_share(step: int, settings: DecoderSettings) -> float:
    """Up over the warm-up, then down along a cosine to a twentieth."""
    cosine = 0.5 * (1 + math.cos(math.pi * step / settings.steps))
    return min(1.0, step / settings.warmup_steps) * (0.05 + 0.95 * cosine)
