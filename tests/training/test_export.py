"""Adapters for other programs: whole models and PEFT folders with a card, and a clear no where the base is another."""

from __future__ import annotations

import json
import re
import runpy
from pathlib import Path
from typing import Any

import pytest
import soundfile
import torch
import yaml
from peft import PeftModel
from transformers import AutoProcessor, MusicgenForConditionalGeneration

from tests.support import audiocraft
from tests.training.adapters import random_adapter
from tests.training.studio import Studio
from trainer_node import report
from trainer_node.engines.musicgen import family
from trainer_node.engines.musicgen.export import Adapter, export, local_adapter
from trainer_node.engines.musicgen.family import Clip
from trainer_node.engines.musicgen.interop import text_encoder
from trainer_node.engines.musicgen.interop.errors import BaseModelMismatch, ExportRefused
from trainer_node.engines.musicgen.model_card import Card, Format, licence_of
from trainer_node.engines.musicgen.tiny import make_tiny
from trainer_node.errors import BaseModelUnavailable
from tunesmith import spec as job_spec
from tunesmith.v1 import job_event_pb2, job_spec_pb2

PROMPT = "low sine drone"


def head_of(folder: Path) -> dict[str, object]:
    """The YAML that a model card begins with."""
    head: dict[str, object] = yaml.safe_load((folder / "README.md").read_text().split("---\n")[1])
    return head


@pytest.fixture
def adapter(tmp_path: Path, models_dir: Path) -> Adapter:
    return random_adapter(models_dir / "tiny", tmp_path / "adapter")


@pytest.mark.parametrize("name", ["tiny", "tiny-stereo"])
def test_a_merged_model_is_the_base_with_the_adapter(name: str, tmp_path: Path, models_dir: Path) -> None:
    adapter = random_adapter(models_dir / name, tmp_path / "adapter")
    export(adapter, tmp_path / "merged", Format.MERGED, models_dir=models_dir)

    base = family.load_base(models_dir / name, name=name)
    codes_KT = torch.randint(0, 64, (base.model.config.decoder.num_codebooks, 20)).to(torch.int16)
    batch = family.collate([Clip(codes_KT, base.encode_text(PROMPT))], channels=base.channels)
    merged = family.load_base(tmp_path / "merged", name="merged")
    with torch.no_grad():
        alone = family.score(base.model, batch)
        beside = family.score(PeftModel.from_pretrained(base.model, adapter.folder).eval(), batch)
        whole = family.score(merged.model, batch)

    assert float((alone - whole).abs().max()) > 0.1
    torch.testing.assert_close(whole, beside, rtol=1e-5, atol=2e-5)


def test_a_merged_model_plays_by_plain_transformers(adapter: Adapter, tmp_path: Path, models_dir: Path) -> None:
    export(adapter, tmp_path / "merged", Format.MERGED, models_dir=models_dir)

    processor = AutoProcessor.from_pretrained(tmp_path / "merged")
    model = MusicgenForConditionalGeneration.from_pretrained(tmp_path / "merged")
    sound = model.generate(**processor(text=[PROMPT], return_tensors="pt"), max_new_tokens=13)

    assert sound.shape == (1, 1, 10 * 320)
    assert model.generation_config.guidance_scale == 3.0
    assert processor.feature_extractor.sampling_rate == 16000


def test_no_exported_file_names_a_place_of_this_machine(adapter: Adapter, tmp_path: Path, models_dir: Path) -> None:
    for form in (Format.PEFT, Format.MERGED):
        export(adapter, tmp_path / form, form, models_dir=models_dir)

    texts = {path: path.read_text() for path in tmp_path.rglob("*") if path.suffix in (".json", ".md")}

    assert len(texts) > 8
    assert [path for path, text in texts.items() if str(models_dir) in text or str(tmp_path) in text] == []


def test_a_peft_folder_is_the_same_adapter_with_a_new_card(adapter: Adapter, tmp_path: Path, models_dir: Path) -> None:
    export(adapter, tmp_path / "out", Format.PEFT, models_dir=models_dir)

    weights = "adapter_model.safetensors"
    assert (tmp_path / "out" / weights).read_bytes() == (adapter.folder / weights).read_bytes()
    assert head_of(tmp_path / "out")["library_name"] == "peft"
    plain = MusicgenForConditionalGeneration.from_pretrained(models_dir / "tiny")
    assert PeftModel.from_pretrained(plain, tmp_path / "out").peft_config["default"].r == 4


def test_a_peft_folder_needs_no_base_model(adapter: Adapter, tmp_path: Path) -> None:
    export(adapter, tmp_path / "out", Format.PEFT, models_dir=tmp_path / "no models")

    assert (tmp_path / "out" / "README.md").is_file()


def test_the_fingerprint_is_that_of_a_training(studio: Studio) -> None:
    done = studio.train(studio.samples(3), training={"epochs": 1})

    adapter = local_adapter(done.output_dir / "adapter")

    base = family.load_base(studio.models_dir / "tiny", name="tiny")
    assert adapter.config is not None
    assert adapter.outcome == done.report()
    assert base.fingerprint() == adapter.config.base_model_fingerprint != ""


@pytest.mark.parametrize("form", [Format.MERGED, Format.AUDIOCRAFT])
def test_another_base_model_of_the_same_shape_is_refused(
    form: Format, adapter: Adapter, tmp_path: Path, models_dir: Path
) -> None:
    make_tiny(tmp_path / "models" / "tiny", seed=1)

    with pytest.raises(BaseModelMismatch, match="was trained on another base model than tiny"):
        export(adapter, tmp_path / "out", form, models_dir=tmp_path / "models")

    assert sorted(path.name for path in tmp_path.iterdir()) == ["adapter", "models"]


def test_without_a_fingerprint_the_shapes_have_to_fit(adapter: Adapter, tmp_path: Path, models_dir: Path) -> None:
    unknown = Adapter(folder=adapter.folder, config=None)

    with pytest.raises(BaseModelMismatch, match="does not fit on tiny-stereo"):
        export(unknown, tmp_path / "out", Format.MERGED, models_dir=models_dir, base_model="tiny-stereo")

    export(unknown, tmp_path / "out", Format.MERGED, models_dir=models_dir)
    assert "How it was trained is not known" in (tmp_path / "out" / "README.md").read_text()


def test_a_base_model_that_is_missing_is_named(adapter: Adapter, tmp_path: Path) -> None:
    with pytest.raises(BaseModelUnavailable, match="no folder 'tiny'"):
        export(adapter, tmp_path / "out", Format.MERGED, models_dir=tmp_path)


@pytest.mark.parametrize("file", ["adapter_config.json", "adapter_model.safetensors"])
def test_a_folder_that_is_no_adapter_is_refused(file: str, adapter: Adapter, tmp_path: Path, models_dir: Path) -> None:
    (adapter.folder / file).write_text("{")

    with pytest.raises(ExportRefused, match="pull the adapter again"):
        export(adapter, tmp_path / "out", Format.MERGED, models_dir=models_dir)


def test_audiocrafts_name_of_the_text_encoder_is_told_by_its_shape(models_dir: Path) -> None:
    config = family.load_base(models_dir / "tiny", name="tiny").model.config.text_encoder
    config.update({"d_model": 768, "num_layers": 12, "num_heads": 12, "d_ff": 3072, "vocab_size": 32128})
    config.is_gated_act = False

    assert text_encoder.name_for(config, "") == "t5-base"
    assert text_encoder.name_for(config, "google/flan-t5-base") == "google/flan-t5-base"
    with pytest.raises(ExportRefused, match="--text-encoder t5-large gives 1024 numbers a token"):
        text_encoder.name_for(config, "t5-large")


def test_a_text_encoder_that_audiocraft_does_not_know_is_refused(
    adapter: Adapter, tmp_path: Path, models_dir: Path
) -> None:
    with pytest.raises(ExportRefused, match=r"it has none of width 48, so export with --format merged"):
        export(adapter, tmp_path / "out", Format.AUDIOCRAFT, models_dir=models_dir)


def test_a_card_tells_the_lineage_the_training_and_the_licence(adapter: Adapter, tmp_path: Path) -> None:
    config = job_event_pb2.TrainingConfig()
    config.CopyFrom(adapter.config)
    config.spec.dpo.adapter.base_model = "facebook/musicgen-small"
    config.spec.dpo.loss = "DPO_LOSS_IPO"
    config.lineage.add(name="my-taste", version=1, kind="supervised")
    config.derivation.pairs.SetInParent()
    config.derivation.count, config.derivation.prompt_count, config.derivation.tie_count = 312, 140, 41
    outcome = job_event_pb2.TrainingReport(config=config, steps=40, best_step=30, best_loss=0.25)
    outcome.final_metrics["eval_rewards/accuracy"] = 0.875

    card = Card(
        base_model="facebook/musicgen-small", licence="cc-by-nc-4.0", config=config, outcome=outcome, name="my-taste@2"
    )
    text = card.text(Format.PEFT)

    assert "| Lineage | supervised my-taste@1 → dpo my-taste@2 |" in text
    assert "| Training | dpo, loss ipo |" in text
    assert "312 pairs from 140 prompts, 41 ties skipped" in text
    assert "| `eval_rewards/accuracy` | 0.8750 |" in text
    assert "under `cc-by-nc-4.0`" in text
    assert "not for commercial use" in text


@pytest.mark.parametrize(
    ("settings", "row"),
    [
        ({"supervised": {"prompt_dropout": 0.2}}, "prompt_dropout 0.2"),
        ({"dpo": {"loss": "robust", "sft_weight": 0.5}}, "beta 0.02, label_smoothing 0.1, sft_weight 0.5"),
        ({"ranking": {}}, "margin 0.1, relative_to_reference true, sft_weight 0"),
        ({"ranking": {"loss": "plackett_luce"}}, "temperature 0.2, relative_to_reference true, sft_weight 0"),
    ],
)
def test_a_card_tells_the_settings_of_its_kind_of_training_as_far_as_they_apply(
    settings: dict[str, dict[str, Any]], row: str
) -> None:
    [given] = settings.values()
    given["adapter"] = {"base_model": "tiny"}
    spec = job_spec.resolve(job_spec.parse(settings, job_spec_pb2.JobSpec()))

    text = Card(base_model="tiny", licence="", config=job_event_pb2.TrainingConfig(spec=spec)).text(Format.PEFT)

    assert f"| Settings | {row} |" in text


def test_the_licence_is_known_by_name_or_told_by_the_base_models_own_card(tmp_path: Path) -> None:
    told, other, silent, broken = (tmp_path / name for name in ("told", "other", "silent", "broken"))
    for folder, head in [
        (told, "license: mit"),
        (other, "license: other\nlicense_name: my-own"),
        (silent, "tags: [musicgen]"),
        (broken, "license: [\n"),
    ]:
        folder.mkdir()
        (folder / "README.md").write_text(f"---\n{head}\n---\n\n# A model\n")

    assert licence_of("facebook/musicgen-stereo-large", "facebook/musicgen-stereo-large") == "cc-by-nc-4.0"
    assert [licence_of(folder.name, folder) for folder in (told, other, silent, broken)] == ["mit", "my-own", "", ""]
    assert licence_of("somewhere", tmp_path / "nothing there") == ""


def test_a_card_without_a_licence_says_whom_to_ask(adapter: Adapter, tmp_path: Path, models_dir: Path) -> None:
    export(adapter, tmp_path / "out", Format.MERGED, models_dir=models_dir)

    assert "ask whoever gave you `tiny`" in (tmp_path / "out" / "README.md").read_text()
    assert "license" not in head_of(tmp_path / "out")


def test_the_licence_goes_with_a_merged_model(adapter: Adapter, tmp_path: Path, models_dir: Path) -> None:
    with_card = make_tiny(tmp_path / "models" / "tiny")
    (with_card / "README.md").write_text("---\nlicense: cc-by-4.0\n---\n")

    export(adapter, tmp_path / "merged", Format.MERGED, models_dir=with_card.parent)

    assert head_of(tmp_path / "merged")["license"] == "cc-by-4.0"
    assert licence_of("merged", tmp_path / "merged") == "cc-by-4.0"


@pytest.mark.parametrize("form", list(Format))
def test_the_code_in_a_card_plays(
    form: Format, tmp_path: Path, wide_models_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    adapter = random_adapter(wide_models_dir / "wide", tmp_path / "adapter")
    export(adapter, tmp_path / "out", form, models_dir=wide_models_dir, text_encoder=audiocraft.T5_NAME)
    [code] = re.findall(r"```python\n(.*?)```", (tmp_path / "out" / "README.md").read_text(), re.DOTALL)
    code = code.replace("this/folder", str(tmp_path / "out")).replace('"wide"', f'"{wide_models_dir / "wide"}"')
    (tmp_path / "play.py").write_text(code.replace("=500", "=28").replace("duration=10", "duration=0.5, top_k=9"))
    monkeypatch.chdir(tmp_path)

    with audiocraft.stand_ins(), audiocraft.text_encoder_of(wide_models_dir / "wide", tmp_path):
        runpy.run_path("play.py")

    sound, rate_hz = soundfile.read(tmp_path / "slow-piano.wav")
    assert (len(sound), rate_hz) == (8000, 16000)


def test_what_was_exported_can_be_exported_again(adapter: Adapter, tmp_path: Path, models_dir: Path) -> None:
    export(adapter, tmp_path / "once", Format.PEFT, models_dir=models_dir)

    again = local_adapter(tmp_path / "once")

    assert again.config == adapter.config
    assert json.loads((tmp_path / "once" / report.CONFIG).read_text())["base_model_fingerprint"]


@pytest.mark.parametrize("form", [Format.PEFT, Format.MERGED])
def test_a_folder_that_stands_is_filled_and_stays_the_same_folder(
    form: Format, adapter: Adapter, tmp_path: Path, models_dir: Path
) -> None:
    mounted, link = tmp_path / "mounted", tmp_path / "link"
    mounted.mkdir()
    link.symlink_to(mounted)
    before = mounted.stat().st_ino

    export(adapter, link, form, models_dir=models_dir)

    assert (mounted.stat().st_ino, link.is_symlink()) == (before, True)
    assert [path.name for path in mounted.glob(".*")] == []
    assert {"README.md", "training_config.json"} <= {path.name for path in mounted.iterdir()}


def test_a_folder_that_stands_is_empty_again_where_the_export_fails(
    adapter: Adapter, tmp_path: Path, models_dir: Path
) -> None:
    (tmp_path / "out").mkdir()

    with pytest.raises(BaseModelMismatch):
        export(adapter, tmp_path / "out", Format.MERGED, models_dir=models_dir, base_model="tiny-stereo")

    assert list((tmp_path / "out").iterdir()) == []


def test_a_name_as_long_as_can_be_is_no_hindrance(adapter: Adapter, tmp_path: Path, models_dir: Path) -> None:
    export(adapter, tmp_path / ("x" * 255), Format.PEFT, models_dir=models_dir)

    assert (tmp_path / ("x" * 255) / "README.md").is_file()


def test_an_adapter_is_not_copied_into_itself(adapter: Adapter, tmp_path: Path, models_dir: Path) -> None:
    before = {path.name for path in adapter.folder.iterdir()}

    export(adapter, adapter.folder / "out", Format.PEFT, models_dir=models_dir)

    assert {path.name for path in (adapter.folder / "out").iterdir()} == before | {"README.md"}
    assert {path.name for path in adapter.folder.iterdir()} == before | {"out"}


def test_an_adapter_whose_training_cannot_be_read_is_refused_rather_than_put_on_any_base(adapter: Adapter) -> None:
    (adapter.folder / report.CONFIG).write_text('{"base_model_fingerprint": "12')

    with pytest.raises(ExportRefused, match=r"training_config\.json cannot be read.*pull the adapter again"):
        local_adapter(adapter.folder)
