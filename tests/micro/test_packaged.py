"""The base model that comes with Tunesmith is whole, small, loads anywhere, and plays what it is asked for.

The bars lie below what was measured, by about what another machine's arithmetic and 192 clips may cost.
"""

from __future__ import annotations

import runpy
import subprocess
from pathlib import Path

import pytest
import torch
from hatchling.builders.plugin.interface import BuilderInterface
from hatchling.builders.sdist import SdistBuilder
from hatchling.builders.wheel import WheelBuilder
from transformers import AutoTokenizer, MusicgenForConditionalGeneration

from tests.rules.sources import ROOT
from tests.training.adapters import random_adapter
from trainer_node import packaged_model, preflight
from trainer_node.engines.micro import card, measuring
from trainer_node.engines.micro.assembly import TEMPERATURE, TOP_K
from trainer_node.engines.micro.measuring import Measured
from trainer_node.engines.musicgen import family
from trainer_node.engines.musicgen.export import export
from trainer_node.engines.musicgen.family import BaseModel
from trainer_node.engines.musicgen.model_card import Format, licence_of
from trainer_node.tunes.world import DURATION_S, VALUES

FOLDER = packaged_model.FOLDER
CLIPS, SEED = 192, 2026


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> BaseModel:
    """Found as a node finds it whose models directory is empty."""
    empty = tmp_path_factory.mktemp("models")
    return family.load_base(preflight.find_base_model(empty, packaged_model.NAME), name=packaged_model.NAME)


@pytest.fixture(scope="module")
def measured(base: BaseModel) -> Measured:
    """What is heard of it, which takes about a minute."""
    return measuring.measure(base, lambda *_: None, clips=CLIPS, seed=SEED)


def test_its_files_are_those_of_the_manifest_and_small() -> None:
    sizes = {path.name: path.stat().st_size for path in FOLDER.iterdir()}

    assert (FOLDER / card.SUMS).read_text() == card.manifest(FOLDER)
    assert sum(sizes.values()) <= 4_000_000
    assert {"config.json", "generation_config.json", "made.json", "README.md", card.WEIGHTS} < set(sizes)
    assert not [name for name in sizes if name.startswith(".")]


@pytest.mark.parametrize("builder", [WheelBuilder, SdistBuilder])
def test_wheel_and_sdist_hold_it(builder: type[BuilderInterface]) -> None:
    paths = {file.distribution_path for file in builder(str(ROOT)).recurse_included_files()}

    expected = {str(path.relative_to(ROOT)) for path in FOLDER.iterdir()}
    assert expected and expected <= paths


def test_plain_transformers_loads_it_in_32_bits_and_samples_it_as_it_was_measured() -> None:
    model, loading = MusicgenForConditionalGeneration.from_pretrained(FOLDER, output_loading_info=True)
    tokens = AutoTokenizer.from_pretrained(FOLDER)(["fast high major scale, square"], return_tensors="pt")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        sound = model.generate(**tokens)

    how = model.generation_config
    assert {value.dtype for value in model.state_dict().values() if value.is_floating_point()} == {torch.float32}
    assert not loading["unexpected_keys"]
    assert (how.do_sample, how.guidance_scale, how.temperature, how.top_k) == (True, 1.0, TEMPERATURE, TOP_K)
    assert sound.shape[-1] / 8000 == pytest.approx(DURATION_S, abs=0.05)


def test_it_is_found_by_its_name_without_a_models_directory(base: BaseModel) -> None:
    assert (base.name, base.clip_hz, base.frame_rate_hz, base.channels) == (packaged_model.NAME, 8000, 25, 1)
    assert base.model.dtype == torch.float32


def test_the_listener_hears_true_tunes(measured: Measured) -> None:
    assert {name: share for name, share in measured.true.shares.items() if share < 0.98} == {}
    assert set(measured.true.shares) == set(VALUES)


def test_what_the_codec_keeps_is_heard(measured: Measured) -> None:
    bars = {"register": 0.97, "tempo": 0.97, "mode": 0.97, "pattern": 0.97, "timbre": 0.93}

    shares = measured.codec.shares

    assert {name: shares[name] for name, bar in bars.items() if shares[name] < bar} == {}


def test_what_it_is_asked_for_is_heard_in_what_it_plays(measured: Measured) -> None:
    bars = {"register": 0.95, "tempo": 0.95, "mode": 0.90, "pattern": 0.90, "timbre": 0.92}

    heard = measured.seen

    assert {name: heard.shares[name] for name, bar in bars.items() if heard.shares[name] < bar} == {}
    assert heard.in_scale >= 0.97
    assert heard.clips == CLIPS


def test_guidance_does_no_harm(measured: Measured) -> None:
    bars = {"register": 0.95, "tempo": 0.95, "mode": 0.92, "pattern": 0.92, "timbre": 0.92}

    shares = measured.guided.shares

    assert {name: shares[name] for name, bar in bars.items() if shares[name] < bar} == {}


def test_its_card_tells_what_made_json_holds() -> None:
    page = (FOLDER / "README.md").read_text()

    assert card.of_folder(FOLDER) == page
    assert "played, held-out combinations" in page


def test_what_is_trained_on_it_is_under_apache_and_plays_as_its_card_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    adapter = random_adapter(FOLDER, tmp_path / "adapter", name=packaged_model.NAME)
    export(adapter, tmp_path / "this" / "folder", Format.PEFT, models_dir=tmp_path / "no models")
    page = (tmp_path / "this" / "folder" / "README.md").read_text()
    (tmp_path / "play.py").write_text(page.split("```python\n")[1].split("```")[0])
    monkeypatch.chdir(tmp_path)

    runpy.run_path("play.py")

    assert "license: apache-2.0" in page and licence_of(packaged_model.NAME, FOLDER) == "apache-2.0"
    assert (tmp_path / "scale.wav").stat().st_size > 50_000


def test_the_manifest_is_what_sha256sum_reads() -> None:
    checked = subprocess.run(["sha256sum", "-c", "--strict", card.SUMS], cwd=FOLDER, capture_output=True, text=True)

    assert checked.returncode == 0, checked.stdout
