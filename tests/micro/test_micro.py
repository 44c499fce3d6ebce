"""The micro model's parts learn, fit together, and are loaded as any MusicGen is; a few steps, so it plays noise."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor
from transformers import EncodecModel

from tests.micro.small import CODEC, DECODER, SMALL, Told
from trainer_node.engines.micro import assembly, card, codec, decoder, hearing, quantizer, recipe
from trainer_node.engines.micro.spectral import reconstruction_loss
from trainer_node.engines.musicgen.codes import IGNORE
from trainer_node.engines.musicgen.family import load_base
from trainer_node.engines.musicgen.sampling import Wanted, play
from trainer_node.tunes.listener import Heard
from trainer_node.tunes.world import FRAMES, VALUES, held_out


@pytest.fixture(scope="module")
def told() -> Told:
    return Told()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, told: Told) -> Path:
    """A micro model that has hardly learnt anything."""
    folder = tmp_path_factory.mktemp("micro")
    recipe.train_micro(folder, SMALL, told)
    return folder


@pytest.fixture(scope="module")
def sound_codec() -> EncodecModel:
    torch.manual_seed(1)
    return codec.new_codec().eval()


def test_what_is_made_is_loaded_as_any_musicgen_and_is_small(folder: Path) -> None:
    base = load_base(folder, name="micro")

    assert (base.clip_hz, base.frame_rate_hz, base.channels) == (8000, 25, 1)
    assert base.model.dtype == torch.float32
    assert (folder / "model.safetensors").stat().st_size < 4_000_000
    assert not (folder / recipe.MAKING).exists()


def test_the_way_is_told_phase_by_phase(folder: Path, told: Told) -> None:
    assert list(dict.fromkeys(phase for phase, *_ in told)) == [
        "plain",
        "quantised",
        "balanced",
        "polish",
        "encode",
        "decoder",
    ]
    assert all(step <= steps for _, step, steps, _ in told)


def test_the_same_recipe_gives_the_same_bytes_and_goes_on_after_the_codec(folder: Path, tmp_path: Path) -> None:
    class Killed(Exception):
        pass

    def until_the_decoder(phase: str, *_: object) -> None:
        if phase == "encode":
            raise Killed

    again = Told()
    with pytest.raises(Killed):
        recipe.train_micro(tmp_path, SMALL, until_the_decoder)
    kept = [recipe.codec_is_kept(tmp_path, settings) for settings in (SMALL.codec, replace(SMALL.codec, seed=1))]
    recipe.train_micro(tmp_path, SMALL, again)

    assert kept == [True, False]
    assert {phase for phase, *_ in again} == {"encode", "decoder"}
    assert card.manifest(tmp_path) == card.manifest(folder)
    assert str(tmp_path) not in (tmp_path / "config.json").read_text()


def test_the_codes_that_are_kept_are_those_that_are_heard(folder: Path) -> None:
    base = load_base(folder, name="micro")

    wanted = [Wanted(prompt, 5) for prompt in ("fast high scale", "slow tune")]
    first, again = (play(base.model, base, wanted, hearing.AS_THE_MODEL, lambda: False) for _ in range(2))

    codes_BKT = torch.from_numpy(np.stack([clip.codes_KT for clip in first])).long()
    decoded_BN = codec.decode(base.model.audio_encoder, codes_BKT)
    assert all(np.array_equal(one.sound_CN, other.sound_CN) for one, other in zip(first, again, strict=True))
    assert codes_BKT.shape[1:] == (codec.LEVELS, FRAMES)
    for clip, sound_N in zip(first, decoded_BN, strict=True):
        assert np.allclose(clip.sound_CN[0], sound_N.numpy(), atol=1e-5)


def test_obedience_counts_what_was_asked_for_and_nothing_else() -> None:
    heard = [Heard(mode="major", register="low"), Heard(mode="minor", register="low"), Heard()]
    wanted = [{"mode": "major"}, {"mode": "major"}, {"mode": "minor"}]

    found = hearing.obedience(heard, wanted)

    assert found.shares == {"mode": pytest.approx(1 / 3)}
    assert found.whole == pytest.approx(1 / 3)


def test_true_tunes_are_heard_and_what_a_model_plays_that_has_learnt_nothing_is_not(folder: Path) -> None:
    base = load_base(folder, name="micro")

    true, after = hearing.codec_obedience(base.model, clips=6, seed=1)
    played = hearing.model_obedience(base, held_out()[:3], seed=1)

    assert (true.clips, after.clips, played.clips) == (6, 6, 3)
    assert true.whole == 1 and set(true.shares) == set(played.shares) == set(VALUES)
    assert after.whole < 0.5 and played.whole < 0.5


def test_quantizing_finds_the_nearest_codes_and_lets_gradients_through(sound_codec: EncodecModel) -> None:
    generator = torch.Generator().manual_seed(2)
    vectors_ND = torch.randn(2000, codec.WIDTH, generator=generator)
    unexplained = quantizer.begin_codebooks(sound_codec, vectors_ND, generator)
    latent_BDT = torch.randn(2, codec.WIDTH, 7, generator=generator, requires_grad=True)

    found = quantizer.quantize(sound_codec, latent_BDT)
    torch.autograd.backward(found.latent_BDT.sum())

    theirs_KBT = sound_codec.quantizer.encode(latent_BDT.detach(), bandwidth=sound_codec.config.target_bandwidths[-1])
    assert torch.equal(found.codes_KBT, theirs_KBT)
    assert torch.allclose(found.latent_BDT, sound_codec.quantizer.decode(theirs_KBT), atol=1e-5)
    assert torch.equal(latent_BDT.grad, torch.ones_like(latent_BDT))
    assert 0 < unexplained < 1


def test_codebooks_follow_what_chose_them(sound_codec: EncodecModel) -> None:
    generator = torch.Generator().manual_seed(3)
    latent_BDT = torch.randn(8, codec.WIDTH, 50, generator=generator)
    quantizer.begin_codebooks(sound_codec, latent_BDT.transpose(1, 2).flatten(0, 1), generator)

    far = latent_BDT + 3
    before = quantizer.quantize(sound_codec, far).commitment
    for _ in range(60):
        quantizer.quantize_and_learn(sound_codec, far, keep=0.9, generator=generator)

    assert quantizer.quantize(sound_codec, far).commitment < 0.5 * before


def test_the_codec_learns() -> None:
    told = Told()

    codec.train_codec(replace(CODEC, plain_steps=150, quantised_steps=1, balanced_steps=1, polish_steps=1), told)

    plain = [loss for phase, *_, loss in told if phase == "plain"]
    assert plain[-1] < 0.97 * plain[0]


def test_beginnings_of_notes_weigh_more_in_every_level_and_what_is_no_target_nothing(folder: Path) -> None:
    base = load_base(folder, name="micro")

    given = decoder.examples(base.model, DECODER, Told())

    weights, labels = given.weights_MKS, given.labels_MKS
    assert torch.equal(weights == 0, labels == IGNORE)
    onsets = [(row[level] == DECODER.onset_weight).sum().item() for row in weights for level in range(codec.LEVELS)]
    counts = [len(tune.notes) for tune in given.tunes for _ in range(codec.LEVELS)]
    assert onsets == counts


def test_only_the_last_two_phases_hear_without_pre_emphasis_as_well(monkeypatch: pytest.MonkeyPatch) -> None:
    weights = []

    def noted(made_BN: Tensor, true_BN: Tensor, *, unemphasised: float = 0.0) -> Tensor:
        weights.append(unemphasised)
        return reconstruction_loss(made_BN, true_BN, unemphasised=unemphasised)

    monkeypatch.setattr(codec, "reconstruction_loss", noted)
    once = {f"{phase}_steps": 1 for phase in codec.PHASES}
    codec.train_codec(replace(CODEC, **once), Told())

    assert weights == [0, 0, 0.5, 0.5]


def test_equal_sounds_are_at_no_distance_and_hiss_is_further_than_silence() -> None:
    sound_BN = codec.tunes_as_sound(2, seed=4)
    hiss: Tensor = 0.05 * torch.randn(sound_BN.shape, generator=torch.Generator().manual_seed(5))

    assert reconstruction_loss(sound_BN, sound_BN, unemphasised=0.5) == 0
    assert reconstruction_loss(sound_BN + hiss, sound_BN) > reconstruction_loss(sound_BN + 0.1 * hiss, sound_BN) > 0


def test_without_pre_emphasis_low_partials_weigh_more_beside_high_ones() -> None:
    time = torch.arange(8000) / 8000
    low, high = (torch.sin(2 * torch.pi * hertz * time)[None] for hertz in (200, 3000))
    both = 0.3 * (low + high)

    def lost(partial_BN: Tensor, weight: float) -> float:
        return float(reconstruction_loss(both - 0.3 * partial_BN, both, unemphasised=weight))

    assert lost(low, 0.5) / lost(high, 0.5) > 1.2 * lost(low, 0.0) / lost(high, 0.0)


def test_the_tokenizer_knows_every_word_of_a_prompt_and_spells_the_rest() -> None:
    pieces = assembly.tokenizer()

    said = ["fast", "bright", "high", "major", "broken", "chord", ",", "flute", "like"]
    known = pieces.tokenize("fast bright high major broken chord, flute like")
    spelt = pieces.tokenize("zebra")

    assert [piece.strip("\u2581") for piece in known] == said
    assert pieces.unk_token not in spelt and "".join(spelt).strip("\u2581") == "zebra"
