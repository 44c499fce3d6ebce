"""The codec: an EnCodec of 0.6 million numbers, trained in four phases.

1. *plain*: encoder and decoder without a quantizer, with a little noise in between, so that near is near.
2. *quantised*: codebooks begun by k-means; gradients pass straight through, codebooks follow by moving means.
3. *balanced*: the same, by a loss that also counts without pre-emphasis.
4. *polish*: the codes stay as they are; only the decoder learns on, and what it plays is to be encoded as before.

The loss of the first two has pre-emphasis alone: without it codes lose the timbre of high notes, and no later phase
brings it back. To the end, it would leave what tells pitch too weak; hence *balanced*. docs/explanation/experiments.md
has the figures.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from transformers import EncodecConfig, EncodecModel

from trainer_node.engines.micro.quantizer import begin_codebooks, quantize, quantize_and_learn
from trainer_node.engines.micro.spectral import reconstruction_loss
from trainer_node.tunes.synth import render
from trainer_node.tunes.world import FRAME_SAMPLES, FRAMES, RATE_HZ, draw

LEVELS, CODES, WIDTH = 4, 128, 64  # codebooks, their entries, their dimensions: 0.7 kbit a second
PHASES = ("plain", "quantised", "balanced", "polish")
FRAME_RATE_HZ = RATE_HZ // FRAME_SAMPLES

Step = Callable[[Tensor], Tensor]
Tell = Callable[[str, int, int, float], None]  # phase, step, steps, mean loss


@dataclass(frozen=True, kw_only=True)
class CodecSettings:
    """How a codec is trained. crop_frames: of a training example; rates are those at the beginning of a phase."""

    seed: int = 0
    tunes: int = 3000
    batch_size: int = 24
    crop_frames: int = 24
    plain_steps: int = 1000
    quantised_steps: int = 900
    balanced_steps: int = 1800
    polish_steps: int = 1500
    plain_rate: float = 3e-3
    quantised_rate: float = 1.8e-3
    balanced_rate: float = 1.8e-3
    polish_rate: float = 1.5e-3
    noise: float = 0.1  # of the latent's deviation
    commitment: float = 0.25
    keep: float = 0.97  # of a codebook a step
    cycle: float = 1.0
    unemphasised: float = 0.5  # weight of the loss without pre-emphasis, in the last two phases


def new_codec() -> EncodecModel:
    """An untrained codec for 8 kHz mono: ratios 5·8·8 = 320 samples a frame, no residual blocks (2.3 times faster)."""
    bits = (CODES - 1).bit_length()
    config = EncodecConfig(
        sampling_rate=RATE_HZ,
        audio_channels=1,
        num_filters=16,
        hidden_size=WIDTH,
        codebook_size=CODES,
        upsampling_ratios=[5, 8, 8],
        target_bandwidths=[FRAME_RATE_HZ * bits * LEVELS / 1000],
        use_causal_conv=False,
        num_lstm_layers=1,
        num_residual_layers=0,
        normalize=False,
        chunk_length_s=None,
        kernel_size=7,
        last_kernel_size=3,
    )
    return EncodecModel(config)


def train_codec(settings: CodecSettings, tell: Tell) -> EncodecModel:
    """All four phases; the same seed, threads and versions give the same bits."""
    torch.manual_seed(settings.seed)
    model = new_codec().train()
    sounds_MN = tunes_as_sound(settings.tunes, seed=settings.seed + 1)
    _find_codes(model, sounds_MN, settings, tell)
    _refine(model, sounds_MN, settings, tell)
    return model.eval()


def _find_codes(model: EncodecModel, sounds_MN: Tensor, settings: CodecSettings, tell: Tell) -> None:
    """The phases *plain* and *quantised*."""
    generator = torch.Generator().manual_seed(settings.seed)
    crops = _crops(sounds_MN, settings, generator)

    def plain(true_BN: Tensor) -> Tensor:
        latent_BDT = model.encoder(true_BN[:, None])
        noise = settings.noise * latent_BDT.detach().std() * torch.randn(latent_BDT.shape, generator=generator)
        return reconstruction_loss(_decoded(model, latent_BDT + noise), true_BN)

    _phase("plain", model, plain, crops, settings.plain_steps, settings.plain_rate, tell)
    begin_codebooks(model, _vectors(model, sounds_MN[:640]), generator)
    quantised = _quantised_loss(model, settings, generator, unemphasised=0.0)
    _phase("quantised", model, quantised, crops, settings.quantised_steps, settings.quantised_rate, tell)


def _refine(model: EncodecModel, sounds_MN: Tensor, settings: CodecSettings, tell: Tell) -> None:
    """The phases *balanced* and *polish*, with a generator of their own: the length of the others changes no crop."""
    generator = torch.Generator().manual_seed(settings.seed)
    crops = _crops(sounds_MN, settings, generator)

    def polish(true_BN: Tensor) -> Tensor:
        with torch.no_grad():
            latent_BDT = quantize(model, model.encoder(true_BN[:, None])).latent_BDT
        made_BN = _decoded(model, latent_BDT)
        again = (model.encoder(made_BN[:, None]) - latent_BDT).pow(2).mean() / latent_BDT.var()
        loss: Tensor = (
            reconstruction_loss(made_BN, true_BN, unemphasised=settings.unemphasised) + settings.cycle * again
        )
        return loss

    balanced = _quantised_loss(model, settings, generator, unemphasised=settings.unemphasised)
    _phase("balanced", model, balanced, crops, settings.balanced_steps, settings.balanced_rate, tell)
    model.encoder.requires_grad_(False)
    _phase("polish", model, polish, crops, settings.polish_steps, settings.polish_rate, tell)
    model.encoder.requires_grad_(True)


def _quantised_loss(
    model: EncodecModel, settings: CodecSettings, generator: torch.Generator, *, unemphasised: float
) -> Step:
    """What is lost through the codes; each call moves the codebooks, too."""

    def loss_of(true_BN: Tensor) -> Tensor:
        latent_BDT = model.encoder(true_BN[:, None])
        found = quantize_and_learn(model, latent_BDT, keep=settings.keep, generator=generator)
        commitment = settings.commitment * found.commitment / latent_BDT.detach().var()
        loss: Tensor = (
            reconstruction_loss(_decoded(model, found.latent_BDT), true_BN, unemphasised=unemphasised) + commitment
        )
        return loss

    return loss_of


def tunes_as_sound(count: int, *, seed: int) -> Tensor:
    """sounds_MN of `count` tunes at random."""
    random = np.random.default_rng(seed)
    return torch.from_numpy(np.stack([render(draw(random)) for _ in range(count)]))


@torch.no_grad()
def encode(model: EncodecModel, sounds_MN: Tensor, *, batch_size: int = 32) -> Tensor:
    """codes_MKT of sounds."""
    bandwidth = model.config.target_bandwidths[-1]
    parts = [
        model.encode(part[:, None], bandwidth=bandwidth).audio_codes[0] for part in torch.split(sounds_MN, batch_size)
    ]
    return torch.cat(parts)


@torch.no_grad()
def decode(model: EncodecModel, codes_MKT: Tensor, *, batch_size: int = 32) -> Tensor:
    """sounds_MN of codes."""
    parts = [
        model.decode(part[None], audio_scales=[None]).audio_values[:, 0] for part in torch.split(codes_MKT, batch_size)
    ]
    return torch.cat(parts)


def _phase(
    name: str, model: EncodecModel, loss_of: Step, crops: Iterator[Tensor], steps: int, rate: float, tell: Tell
) -> None:
    """The loop: batch, loss, backward, clip, step."""
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=rate, betas=(0.9, 0.99), weight_decay=1e-4)
    recent: list[float] = []
    for step in range(1, steps + 1):
        for group in optimizer.param_groups:
            group["lr"] = rate * min(1.0, step / 30) * (0.03 + 0.97 * _cosine(step / steps))
        loss = loss_of(next(crops))
        optimizer.zero_grad(set_to_none=True)
        torch.autograd.backward(loss)
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        recent.append(loss.item())
        if step % 50 == 0 or step == steps:
            tell(name, step, steps, sum(recent) / len(recent))
            recent.clear()


def _cosine(share: float) -> float:
    return 0.5 * (1 + math.cos(math.pi * share))


def _crops(sounds_MN: Tensor, settings: CodecSettings, generator: torch.Generator) -> Iterator[Tensor]:
    """Batches of parts of tunes that begin on a frame, without end."""
    size, length = settings.batch_size, settings.crop_frames * FRAME_SAMPLES
    while True:
        chosen = torch.randint(len(sounds_MN), (size,), generator=generator).tolist()
        begins = torch.randint(FRAMES - settings.crop_frames + 1, (size,), generator=generator).tolist()
        yield torch.stack(
            [
                sounds_MN[number, begin * FRAME_SAMPLES : begin * FRAME_SAMPLES + length]
                for number, begin in zip(chosen, begins, strict=True)
            ]
        )


def _decoded(model: EncodecModel, latent_BDT: Tensor) -> Tensor:
    sound_BN: Tensor = model.decoder(latent_BDT)[:, 0, : latent_BDT.shape[-1] * FRAME_SAMPLES]
    return sound_BN


@torch.no_grad()
def _vectors(model: EncodecModel, sounds_MN: Tensor) -> Tensor:
    """vectors_ND that the encoder makes of sounds."""
    parts = [model.encoder(part[:, None]).transpose(1, 2).flatten(0, 1) for part in torch.split(sounds_MN, 32)]
    return torch.cat(parts)
