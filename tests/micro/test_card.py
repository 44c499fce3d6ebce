"""A micro model is handed on with a card that tells what was measured, and a manifest; and found by its name."""

from __future__ import annotations

import hashlib
import json
import runpy
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import soundfile
import yaml

from tests.micro.small import SMALL, Told
from tests.rules.sources import ROOT
from tests.training.adapters import random_adapter
from trainer_node import packaged_model, preflight
from trainer_node.engines.micro import card, measuring
from trainer_node.engines.micro.making import describe, make_micro, steps
from trainer_node.engines.micro.measuring import Measured
from trainer_node.engines.musicgen.export import export
from trainer_node.engines.musicgen.model_card import Format, licence_of
from trainer_node.errors import BaseModelUnavailable
from trainer_node.tunes.world import DURATION_S, VALUES, combinations, held_out

CLIPS = 4


@pytest.fixture(scope="module")
def told() -> Told:
    return Told()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, told: Told) -> Path:
    """A micro model, in the place from which a node takes it by its name."""
    folder = tmp_path_factory.mktemp("models") / packaged_model.NAME
    make_micro(folder, SMALL, told, clips=CLIPS)
    return folder


def code_of(page: Path) -> str:
    return page.read_text().split("```python\n")[1].split("```")[0]


def test_every_step_is_told_up_to_the_last_of_each_phase(folder: Path, told: Told) -> None:
    last = {phase: (step, all_steps) for phase, step, all_steps, _ in told}

    assert last == {phase: (count, count) for phase, count in steps(SMALL).items()}


def test_what_was_measured_is_kept_beside_how_it_was_made(folder: Path) -> None:
    made = json.loads((folder / "made.json").read_text())

    measured = made["measured"]
    assert made["recipe"]["codec"]["plain_steps"] == 40 and made["threads"] == 1 and made["validation_loss"] > 0
    assert set(measured) == {"seed", "true", "codec", "seen", "held_out", "guided"}
    assert measured["true"]["whole"] == 1 and measured["true"]["clips"] == measured["held_out"]["clips"] == CLIPS
    assert set(measured["seen"]["shares"]) == set(VALUES)


def test_the_card_tells_what_it_is_and_how_well_it_is_heard(folder: Path) -> None:
    page = (folder / "README.md").read_text()
    head = yaml.safe_load(page.split("---\n")[1])

    assert head["license"] == "apache-2.0" and head["pipeline_tag"] == "text-to-audio"
    assert "A complete MusicGen of 1.81 million numbers" in page
    assert "| true tunes | 1.000 | 1.000 | 1.000 | 1.000 | 1.000 | 1.000 | 1.000 |" in page
    assert all(title in page for title in ("after the codec", "held-out combinations", "guidance 3"))
    assert "| timbre | pluck | pluck, plucked, harp like |" in page
    assert "48 tunes; 40 + 20 + 5 + 10 steps (plain, quantised, balanced, polish), seed 0" in page
    assert "{" not in page and str(folder) not in page


def test_the_card_loads_what_it_describes(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(folder, tmp_path / "this" / "folder")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "card.py").write_text(code_of(folder / "README.md"))

    runpy.run_path("card.py")

    sound, rate_hz = soundfile.read("scale.wav")
    assert rate_hz == 8000 and len(sound) / rate_hz == pytest.approx(DURATION_S, abs=0.05)


def test_the_manifest_holds_for_every_file(folder: Path) -> None:
    checked = subprocess.run(
        ["sha256sum", "--check", "--strict", card.SUMS], cwd=folder, capture_output=True, text=True
    )

    listed = {line.partition("  ")[2] for line in (folder / card.SUMS).read_text().splitlines()}
    assert checked.returncode == 0, checked.stdout
    assert listed == {path.name for path in folder.iterdir()} - {card.SUMS}


def test_describing_again_says_the_same(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder, tmp_path / "micro")

    describe(tmp_path / "micro", Told(), clips=CLIPS)

    assert (tmp_path / "micro" / card.SUMS).read_text() == (folder / card.SUMS).read_text()


def test_what_is_trained_already_is_only_measured(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder, tmp_path / "micro")
    (tmp_path / "micro" / card.SUMS).unlink()
    told = Told()

    make_micro(tmp_path / "micro", SMALL, told, clips=CLIPS)

    assert {phase for phase, *_ in told} == {measuring.PHASE}
    weights = [(at / "model.safetensors").read_bytes() for at in (folder, tmp_path / "micro")]
    assert hashlib.sha256(weights[0]).digest() == hashlib.sha256(weights[1]).digest()


def test_no_combination_is_heard_twice_before_all_were(folder: Path) -> None:
    every = combinations()

    some, more = measuring.chosen(every, 100, 1), measuring.chosen(held_out(), 20, 1)

    assert len({tuple(one.values()) for one in some}) == 100
    assert len({tuple(one.values()) for one in more}) == 18


def test_a_row_is_of_what_it_says(folder: Path) -> None:
    measured = Measured.of(json.loads((folder / "made.json").read_text())["measured"])

    rows = dict(measured.rows())

    assert rows["true tunes"] is measured.true and rows["after the codec"] is measured.codec
    assert rows["played, held-out combinations"] is measured.held_out
    assert rows["played, seen combinations"] is measured.seen


def test_a_folder_of_its_name_in_the_models_directory_wins(folder: Path) -> None:
    models_dir = folder.parents[1]

    assert preflight.find_base_model(models_dir, packaged_model.NAME) == folder


def test_who_asks_for_what_is_not_there_is_told_of_the_packaged_model(tmp_path: Path) -> None:
    with pytest.raises(BaseModelUnavailable, match="or give tunesmith/micro, which comes with Tunesmith"):
        preflight.find_base_model(tmp_path, "micro")


def test_the_packaged_model_is_found_without_pytorch() -> None:
    program = (
        "import sys; from pathlib import Path; from trainer_node import preflight, packaged_model\n"
        "try: preflight.find_base_model(Path('none'), packaged_model.NAME)\n"
        "except preflight.BaseModelUnavailable: pass\n"
        "print('torch' in sys.modules)"
    )

    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)

    assert done.stdout == "False\n"


@pytest.mark.parametrize("form", [Format.PEFT, Format.MERGED])
def test_what_is_trained_on_it_is_under_its_licence_and_says_how_to_play_it(
    form: Format, folder: Path, tmp_path: Path
) -> None:
    adapter = random_adapter(folder, tmp_path / "adapter", name=packaged_model.NAME)

    export(adapter, tmp_path / "out", form, models_dir=folder.parents[1])

    page = (tmp_path / "out" / "README.md").read_text()
    assert licence_of(packaged_model.NAME, folder) == "apache-2.0"
    assert yaml.safe_load(page.split("---\n")[1])["license"] == "apache-2.0"
    assert "slow piano" not in page and "guidance_scale" not in page
    assert "sound = model.generate(**prompt)" in code_of(tmp_path / "out" / "README.md")
