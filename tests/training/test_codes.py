"""The delay pattern and the loss, beside transformers' own."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from tests.training.studio import PROMPTS
from trainer_node.engines.musicgen import codes, family, losses
from trainer_node.engines.musicgen.family import BaseModel, Clip


def random_clips(base: BaseModel, frames: list[int]) -> list[Clip]:
    codebooks = base.model.config.decoder.num_codebooks
    drawn = torch.Generator().manual_seed(1)
    return [
        Clip(torch.randint(0, 64, (codebooks, n), generator=drawn).to(torch.int16), base.encode_text(PROMPTS[i % 3]))
        for i, n in enumerate(frames)
    ]


@pytest.mark.parametrize("channels", [1, 2])
def test_the_delay_is_that_of_transformers(base: BaseModel, stereo_base: BaseModel, channels: int) -> None:
    decoder = (base if channels == 1 else stereo_base).model.decoder
    levels, frames, pad_id = decoder.num_codebooks // channels, 12, 64
    codes_KT = torch.randint(0, 64, (decoder.num_codebooks, frames))

    started = torch.cat([torch.full((decoder.num_codebooks, 1), pad_id), codes_KT], 1)
    _, pattern = decoder.build_delay_pattern_mask(started, pad_token_id=pad_id, max_length=frames + levels)
    theirs = decoder.apply_delay_pattern_mask(F.pad(started, (0, levels - 1), value=-7), pattern)[:, 1:]

    ours = codes.delay(codes_KT, channels=channels)
    assert torch.equal(ours.masked_fill(ours == codes.IGNORE, pad_id), theirs)


@given(levels=st.integers(1, 5), channels=st.integers(1, 2), frames=st.integers(1, 40), seed=st.integers(0, 99))
def test_each_codebook_is_moved_by_its_level_and_loses_nothing(
    levels: int, channels: int, frames: int, seed: int
) -> None:
    drawn = torch.Generator().manual_seed(seed)
    codes_KT = torch.randint(0, 64, (levels * channels, frames), generator=drawn)

    labels_KS = codes.delay(codes_KT, channels=channels)

    moved = [labels_KS[k, k // channels : k // channels + frames] for k in range(len(codes_KT))]
    assert torch.equal(torch.stack(moved), codes_KT)
    assert (labels_KS != codes.IGNORE).sum(1).tolist() == [frames] * len(codes_KT)


@pytest.mark.parametrize("channels", [1, 2])
def test_the_loss_is_the_models_own_also_for_clips_of_different_length(
    base: BaseModel, stereo_base: BaseModel, channels: int
) -> None:
    chosen = base if channels == 1 else stereo_base
    batch = family.collate(random_clips(chosen, [9, 20, 14]), channels=channels)
    model = chosen.model
    # transformers 5 moved it to the generation config, and still reads it here
    model.config.decoder.decoder_start_token_id = model.generation_config.decoder_start_token_id

    with torch.no_grad():
        ours = losses.mean_nll(family.score(model, batch), batch["labels_BKS"])
        theirs = model(
            encoder_outputs=(batch["text_BLD"],),
            attention_mask=batch["mask_BL"],
            labels=batch["labels_BKS"].transpose(1, 2),
        ).loss

    torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=0)


def test_a_clip_scores_the_same_alone_and_beside_longer_ones(base: BaseModel) -> None:
    clips = random_clips(base, [9, 30, 14])

    def nll(chosen: list[Clip]) -> torch.Tensor:
        batch = family.collate(chosen, channels=1)
        with torch.no_grad():
            return losses.clip_nll(family.score(base.model, batch), batch["labels_BKS"])

    torch.testing.assert_close(nll(clips), torch.cat([nll([clip]) for clip in clips]), rtol=1e-5, atol=1e-5)


def test_the_null_prompt_is_finite_and_ignores_the_prompt(base: BaseModel) -> None:
    clips = random_clips(base, [9, 9])
    same = [Clip(clips[0].codes_KT, clip.text_LD) for clip in clips]  # the same codes under two prompts
    batch = family.collate(same, channels=1)
    base.model.decoder.requires_grad_(True)

    logits_BKSV = family.score(base.model, batch, without_prompt_B=torch.tensor([True, True]))
    torch.autograd.backward(losses.mean_nll(logits_BKSV, batch["labels_BKS"]))

    gradients = [part.grad for part in base.model.decoder.parameters() if part.grad is not None]
    assert gradients
    assert all(bool(gradient.isfinite().all()) for gradient in gradients)
    torch.testing.assert_close(logits_BKSV[0], logits_BKSV[1])
    assert not torch.allclose(family.score(base.model, batch)[0], logits_BKSV[0])


def test_nothing_is_dropped_out_in_train_mode(base: BaseModel) -> None:
    batch = family.collate(random_clips(base, [9]), channels=1)

    with torch.no_grad():
        evaluated = family.score(base.model.eval(), batch)
        trained = family.score(base.model.train(), batch)

    assert torch.equal(evaluated, trained)
