"""What is exported, beside audiocraft's own code: its loader, its logits, its loss, its codec and its sound."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.support import audiocraft
from tests.training.adapters import random_adapter
from trainer_node.engines.musicgen import codes, family, losses
from trainer_node.engines.musicgen.export import export
from trainer_node.engines.musicgen.family import BaseModel, Clip
from trainer_node.engines.musicgen.interop import checkpoint_files
from trainer_node.engines.musicgen.model_card import Format

PROMPT = "high bright square wave arpeggio"
FRAMES = 50


@dataclass
class Both:
    """The same model twice: a base with an adapter merged by us, and what audiocraft loaded of its export."""

    ours: BaseModel
    theirs: Any
    folder: Path

    @property
    def channels(self) -> int:
        return self.ours.channels

    def random_codes(self, clips: int) -> torch.Tensor:
        """codes_BKT."""
        drawn = torch.Generator().manual_seed(1)
        codebooks = self.ours.model.config.decoder.num_codebooks
        return torch.randint(0, 64, (clips, codebooks, FRAMES), generator=drawn)

    def our_logits(self, codes_BKT: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """logits_BKSV and labels_BKS."""
        text_LD = self.ours.encode_text(PROMPT)
        batch = family.collate(
            [Clip(codes_KT.to(torch.int16), text_LD) for codes_KT in codes_BKT], channels=self.channels
        )
        with torch.no_grad():
            return family.score(self.ours.model, batch), batch["labels_BKS"]

    def their_logits(self, codes_BKT: torch.Tensor, *, tail: bool) -> Any:
        """logits [B, K, T, V], aligned with the codes, and mask [B, K, T]. tail: the last steps, too."""
        from audiocraft.modules.conditioners import ConditioningAttributes

        described = [ConditioningAttributes(text={"description": PROMPT}) for _ in codes_BKT]
        with torch.no_grad():
            return self.theirs.lm.compute_predictions(codes_BKT, described, keep_only_valid_steps=not tail)


@pytest.fixture(scope="module", params=["wide", "wide-stereo"])
def both(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, wide_models_dir: Path
) -> Iterator[Both]:
    folder = tmp_path_factory.mktemp("audiocraft")
    adapter = random_adapter(wide_models_dir / request.param, folder / "adapter")
    export(adapter, folder / "merged", Format.MERGED, models_dir=wide_models_dir)
    export(adapter, folder / "theirs", Format.AUDIOCRAFT, models_dir=wide_models_dir, text_encoder=audiocraft.T5_NAME)
    with audiocraft.text_encoder_of(folder / "merged", folder), audiocraft.loaded(folder / "theirs") as theirs:
        yield Both(family.load_base(folder / "merged", name="merged"), theirs, folder)


def test_its_greedy_waveform_with_guidance_is_ours_bit_for_bit(both: Both) -> None:
    tokens = both.ours.tokenizer([PROMPT], return_tensors="pt")
    steps = FRAMES + both.ours.model.config.decoder.num_codebooks // both.channels - 1
    both.theirs.set_generation_params(use_sampling=False, duration=FRAMES / 50, cfg_coef=3.0)

    theirs, played = both.theirs.generate([PROMPT], progress=False, return_tokens=True)
    ours = both.ours.model.generate(**tokens, do_sample=False, guidance_scale=3.0, max_new_tokens=steps)

    assert theirs.shape == (1, both.channels, FRAMES * 320)
    assert len(played.unique()) > 10  # not the same code again and again
    assert torch.equal(ours, theirs)


def test_its_logits_are_ours(both: Both) -> None:
    codes_BKT = both.random_codes(2)

    theirs = both.their_logits(codes_BKT, tail=True)
    logits_BKSV, labels_BKS = both.our_logits(codes_BKT)

    ours = logits_BKSV[labels_BKS != codes.IGNORE]
    assert bool(theirs.mask.all())
    torch.testing.assert_close(ours, theirs.logits.flatten(0, 2), rtol=1e-5, atol=1e-5)


def test_our_supervised_loss_is_its_own_cross_entropy(both: Both) -> None:
    from audiocraft.solvers.musicgen import MusicGenSolver

    codes_BKT = both.random_codes(3)
    output = both.their_logits(codes_BKT, tail=True)

    theirs, _ = MusicGenSolver._compute_cross_entropy(None, output.logits, codes_BKT, output.mask)
    ours = losses.mean_nll(*both.our_logits(codes_BKT))

    assert float(ours) > 1
    torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=0)


def test_without_the_last_steps_it_is_the_loss_that_audiocraft_trains_on(both: Both) -> None:
    from audiocraft.solvers.musicgen import MusicGenSolver

    codes_BKT = both.random_codes(3)
    output = both.their_logits(codes_BKT, tail=False)

    _, theirs_K = MusicGenSolver._compute_cross_entropy(None, output.logits, codes_BKT, output.mask)
    logits_BKSV, labels_BKS = both.our_logits(codes_BKT)
    trained_BKS = labels_BKS[:, :, :FRAMES]
    ours_BKS = losses.token_nll(logits_BKSV[:, :, :FRAMES], trained_BKS)
    ours_K = ours_BKS.sum((0, 2)) / (trained_BKS != codes.IGNORE).sum((0, 2))

    torch.testing.assert_close(ours_K, torch.stack(theirs_K), rtol=1e-6, atol=0)


def test_its_delay_pattern_is_ours(both: Both) -> None:
    [codes_KT] = both.random_codes(1)
    pattern = both.theirs.lm.pattern_provider.get_pattern(FRAMES)

    theirs, _, _ = pattern.build_pattern_sequence(codes_KT[None], special_token=64, keep_only_valid_steps=False)
    ours = codes.delay(codes_KT, channels=both.channels)

    assert bool((theirs[0, :, 0] == 64).all())  # it begins with a step of its own
    assert torch.equal(theirs[0, :, 1:], ours.masked_fill(ours == codes.IGNORE, 64))


def test_its_codec_hears_and_plays_as_ours(both: Both) -> None:
    time_s = torch.arange(16000) / 16000
    sound_CN = torch.stack([0.5 * torch.sin(2 * torch.pi * hz * time_s) for hz in (220, 330)[: both.channels]])

    with torch.no_grad():
        codes_1KT, scale = both.theirs.compression_model.encode(sound_CN[None])
        played_1CN = both.theirs.compression_model.decode(codes_1KT, scale)
        levels = codes_1KT[0].reshape(-1, both.channels, FRAMES).transpose(0, 1)  # [channel, level, T]
        decode = both.ours.model.audio_encoder.decode
        ours_CN = torch.cat([decode(one[None, None], [None]).audio_values[0] for one in levels])

    assert len(codes_1KT.unique()) > 5
    assert torch.equal(codes_1KT[0].to(torch.int16), both.ours.encode_audio(sound_CN.numpy()))
    assert torch.equal(ours_CN, played_1CN[0])


def test_the_adapter_is_heard(both: Both, wide_models_dir: Path) -> None:
    name = "wide-stereo" if both.channels == 2 else "wide"
    alone = Both(family.load_base(wide_models_dir / name, name=name), both.theirs, both.folder)
    codes_BKT = both.random_codes(1)

    without, _ = alone.our_logits(codes_BKT)
    merged, _ = both.our_logits(codes_BKT)

    assert float((without - merged).abs().max()) > 0.1


def test_its_files_hold_tensors_and_text_alone(both: Both) -> None:
    found = {path.name for path in (both.folder / "theirs").iterdir()}
    contents = [
        checkpoint_files.read(both.folder / "theirs" / name)  # reads nothing else
        for name in (checkpoint_files.DECODER, checkpoint_files.CODEC)
    ]

    assert found == {checkpoint_files.DECODER, checkpoint_files.CODEC, "README.md", "training_config.json"}
    for path, content in zip(sorted(both.folder.glob("theirs/*.bin"), reverse=True), contents, strict=True):
        numbers = sum(tensor.numel() for tensor in content["best_state"].values())
        assert 4 * numbers <= path.stat().st_size < 4 * numbers + 100_000  # each tensor once, and in 32 bits
        assert set(content) == {"best_state", "xp.cfg", "version", "exported"}
        assert str(both.folder.parent) not in content["xp.cfg"]
