"""The reference of preference training: right, computed once a clip, and kept by all that decides it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel

from tests.training import preference_studio
from tests.training.studio import Studio, Training
from trainer_node.engines.musicgen import adapter_files, examples, family
from trainer_node.engines.musicgen.devices import Device
from trainer_node.engines.musicgen.examples import Example
from trainer_node.engines.musicgen.family import BaseModel, Clip
from trainer_node.engines.musicgen.features import Stopped
from trainer_node.engines.musicgen.reference import Reference
from tunesmith.v1 import job_spec_pb2

CPU = Device("cpu", torch.float32)


def never() -> bool:
    return False


def clips(base: BaseModel, *frames: int) -> list[Clip]:
    drawn = torch.Generator().manual_seed(5)
    codebooks = base.model.config.decoder.num_codebooks
    text_LD = base.encode_text("low sine drone")
    return [Clip(torch.randint(0, 64, (codebooks, n), generator=drawn).to(torch.int16), text_LD) for n in frames]


def model_of(base: BaseModel, *, lora_alpha: float = 16, lora_dropout: float = 0, trained: bool = False) -> PeftModel:
    """The base model with LoRA; trained: with matrices that say something."""
    settings = job_spec_pb2.AdapterSettings(
        lora_r=8, lora_alpha=lora_alpha, lora_dropout=lora_dropout, lora_targets=job_spec_pb2.LORA_TARGETS_ATTENTION
    )
    torch.manual_seed(0)
    model = family.add_lora(base, settings, dtype=torch.float32)
    if trained:
        drawn = torch.Generator().manual_seed(1)
        tensors = adapter_files.tensors_of(model)
        adapter_files.put(model, {name: 0.1 * torch.randn(t.shape, generator=drawn) for name, t in tensors.items()})
    return model


def reference(model: Any, cache_dir: Path, *, weights: str = "these", device: Device = CPU) -> Reference:
    channels = model.config.decoder.audio_channels
    return Reference(model, weights=weights, channels=channels, device=device, cache_dir=cache_dir)


@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("trained", [False, True], ids=["base model", "adapter"])
def test_it_is_what_the_model_itself_says_of_a_clip(
    base: BaseModel, stereo_base: BaseModel, tmp_path: Path, channels: int, trained: bool
) -> None:
    chosen = base if channels == 1 else stereo_base
    [clip] = clips(chosen, 15)
    model = model_of(chosen, trained=trained)
    # transformers 5 moved it to the generation config, and still reads it here
    chosen.model.config.decoder.decoder_start_token_id = chosen.model.generation_config.decoder_start_token_id

    logp = reference(model, tmp_path).logp(clip, never)

    labels_BSK = family.collate([clip], channels=channels)["labels_BKS"].transpose(1, 2)
    with torch.no_grad():
        theirs = model.eval()(
            encoder_outputs=(clip.text_LD[None],), attention_mask=torch.ones(1, len(clip.text_LD)), labels=labels_BSK
        ).loss
    assert logp == pytest.approx(-float(theirs) * clip.codes_KT.numel(), rel=1e-6)


def test_a_clip_has_the_same_number_whatever_it_is_scored_with(base: BaseModel, tmp_path: Path) -> None:
    short, long, other = clips(base, 9, 30, 14)
    lists = [Example((short, long), (1, 2)), Example((other, short), (1, 2))]
    model = model_of(base)

    one = examples.with_reference(lists, reference(model, tmp_path / "one"), never)
    turned = examples.with_reference(lists[::-1], reference(model, tmp_path / "turned"), never)[::-1]

    assert [example.reference for example in one] == [example.reference for example in turned]
    assert one[0].reference[0] == one[1].reference[1]


def test_a_clip_is_scored_once_and_never_again(base: BaseModel, tmp_path: Path) -> None:
    short, long, other = clips(base, 9, 30, 14)
    lists = [Example((short, long), (1, 2)), Example((other, short), (1, 2)), Example((long, other, short), (1, 2, 3))]
    model = model_of(base)

    first, again = reference(model, tmp_path), reference(model, tmp_path)
    scored, read = (examples.with_reference(lists, one, never) for one in (first, again))

    assert (first.cache.computed, first.cache.looked_up) == (3, 3)
    assert (again.cache.computed, again.cache.looked_up) == (0, 3)
    assert [example.reference for example in scored] == [example.reference for example in read]


def test_clips_that_are_gone_lend_their_number_to_no_other(base: BaseModel, tmp_path: Path) -> None:
    model = model_of(base)
    kept = clips(base, *range(5, 17))

    chosen = reference(model, tmp_path / "one")
    passing = [chosen.logp(replace(clip, codes_KT=clip.codes_KT.clone()), never) for clip in kept]

    assert passing == [reference(model, tmp_path / "other").logp(clip, never) for clip in kept]
    assert len(set(passing)) == len(kept)


Changed = Callable[[BaseModel, Clip], tuple[Any, Clip, dict[str, Any]]]


@pytest.mark.parametrize(
    "changed",
    [
        pytest.param(lambda b, c: (model_of(b), c, {"weights": "others"}), id="weights"),
        pytest.param(lambda b, c: (model_of(b, lora_alpha=32), c, {}), id="LoRA scale"),
        pytest.param(lambda b, c: (model_of(b), c, {"device": Device("cpu", torch.bfloat16)}), id="precision"),
        pytest.param(lambda b, c: (model_of(b), replace(c, codes_KT=c.codes_KT.flip(1)), {}), id="codes"),
        pytest.param(lambda b, c: (model_of(b), replace(c, text_LD=b.encode_text("calm pad")), {}), id="prompt"),
    ],
)
def test_whatever_decides_it_is_in_its_key(base: BaseModel, models_dir: Path, tmp_path: Path, changed: Changed) -> None:
    [clip] = clips(base, 9)
    reference(model_of(base), tmp_path).logp(clip, never)
    model, other, settings = changed(family.load_base(models_dir / "tiny", name="tiny"), clip)

    again = reference(model, tmp_path, **settings)
    again.logp(other, never)

    assert again.cache.computed == 1


def test_nothing_is_dropped_out_and_the_model_is_left_as_it_was(base: BaseModel, tmp_path: Path) -> None:
    [clip] = clips(base, 9)
    model = model_of(base, lora_dropout=0.5, trained=True).train()

    values = {reference(model, tmp_path / str(n)).logp(clip, never) for n in range(3)}

    assert len(values) == 1
    assert model.training
    assert not any(part.grad is not None for part in model.parameters())


def test_it_stops_between_two_clips_and_keeps_what_it_has(base: BaseModel, tmp_path: Path) -> None:
    scored, left = clips(base, 9, 12)
    model = model_of(base)
    chosen = reference(model, tmp_path)
    chosen.logp(scored, never)

    with pytest.raises(Stopped):
        examples.with_reference([Example((scored, left), (1, 2))], chosen, lambda: True)

    again = reference(model, tmp_path)
    again.logp(scored, never)
    assert again.cache.computed == 0


def train(studio: Studio, kind: str, cache_dir: Path, **changes: Any) -> Training:
    compared = preference_studio.comparisons(studio, 4)
    return preference_studio.train(studio, kind, compared, cache_dir=cache_dir, **changes)


def scored(capfd: pytest.CaptureFixture[str]) -> list[str]:
    """What trainings said about their reference since the last time."""
    return [line for line in capfd.readouterr().out.splitlines() if line.startswith("scored")]


def test_dpo_and_ranking_from_the_same_start_share_it(
    studio: Studio, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    first = train(studio, "dpo", tmp_path / "cache")
    train(studio, "ranking", tmp_path / "cache", training={"seed": 7})
    again = train(studio, "dpo", tmp_path / "cache")

    assert scored(capfd) == [f"scored {n} of 8 clips for reference" for n in (8, 0, 0)]
    assert again.rows() == first.rows()
    assert again.adapter() == first.adapter()


def test_a_ranking_without_a_reference_scores_nothing(
    studio: Studio, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    train(studio, "ranking", tmp_path / "cache", relative_to_reference=False)

    assert scored(capfd) == []


def test_the_reference_is_the_adapter_that_training_starts_from(
    studio: Studio, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    adapters = [train(studio, "ranking", tmp_path, training={"seed": seed}).output_dir / "adapter" for seed in (1, 2)]
    capfd.readouterr()

    starts = [adapters[0], adapters[0], adapters[1]]
    done = [train(studio, "ranking", tmp_path, start_adapter_dir=folder) for folder in starts]

    assert scored(capfd) == [f"scored {n} of 8 clips for reference" for n in (8, 0, 8)]
    for training in done:
        assert training.metric("loss")[0] == pytest.approx(0.1, rel=1e-4)  # the wished margin: nothing has moved yet
        assert training.metric("rank/margin")[0] == pytest.approx(0, abs=1e-5)


def test_another_base_model_is_another_reference(
    studio: Studio, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    train(studio, "ranking", tmp_path)
    train(studio, "ranking", tmp_path, adapter={"base_model": "tiny-stereo"})

    assert scored(capfd) == ["scored 8 of 8 clips for reference"] * 2
