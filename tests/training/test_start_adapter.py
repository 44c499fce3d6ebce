"""Starting from an adapter: a training goes on exactly where another one ended, or says why it cannot."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.training.studio import Studio, Telemetry, Training
from trainer_node.engines import tensor_files
from trainer_node.errors import StartAdapterUnsuitable
from trainer_node.training import TrainingSample

PREVIEWS = {"preview_prompts": ["low sine drone"], "preview_s": 0.3}

# Such a rate is lost in rounding: the adapter stays what it was at the start.
ONE_STEP_THAT_CHANGES_NOTHING: dict[str, Any] = {"training": {"epochs": 1, "batch_size": 64, "learning_rate": 1e-30}}


@dataclass
class Earlier:
    """A training that has succeeded, its data and its adapter."""

    training: Training
    samples: list[TrainingSample]

    @property
    def adapter(self) -> Path:
        return self.training.output_dir / "adapter"


@pytest.fixture(scope="module")
def earlier(tmp_path_factory: pytest.TempPathFactory, models_dir: Path, cache_dir: Path) -> Earlier:
    studio = Studio(tmp_path_factory.mktemp("earlier"), models_dir, cache_dir)
    samples = studio.samples(8)
    training = studio.train(samples, training={"epochs": 6, "learning_rate": 0.02}, previews=PREVIEWS)
    assert training.report().best_step == training.report().steps  # so its adapter is what it ended with
    return Earlier(training, samples)


def test_a_training_goes_on_exactly_where_the_adapter_stands(studio: Studio, earlier: Earlier) -> None:
    going_on = studio.train(earlier.samples, start=earlier.adapter, previews=PREVIEWS, **ONE_STEP_THAT_CHANGES_NOTHING)

    assert going_on.metric("eval_loss") == [earlier.training.report().best_loss]
    assert going_on.metric("loss")[0] < earlier.training.metric("loss")[0] - 1
    assert going_on.adapter() == earlier.training.adapter()
    at_the_start, at_the_end = going_on.previews()[0], earlier.training.previews()[-1]
    assert (at_the_start.step, at_the_start.file.digest) == (0, at_the_end.file.digest)


def test_going_on_lowers_the_loss_further(studio: Studio, earlier: Earlier) -> None:
    going_on = studio.train(earlier.samples, start=earlier.adapter, training={"epochs": 4})

    assert going_on.report().best_loss < earlier.training.report().best_loss
    assert going_on.adapter() != earlier.training.adapter()


def test_the_lineage_is_that_of_the_adapter_and_the_adapter_itself(studio: Studio, earlier: Earlier) -> None:
    second = studio.train(earlier.samples, start=earlier.adapter, **ONE_STEP_THAT_CHANGES_NOTHING)
    third = studio.train(earlier.samples, start=second.output_dir / "adapter", **ONE_STEP_THAT_CHANGES_NOTHING)

    [oldest, parent] = third.report().config.lineage
    assert (oldest.name, oldest.kind) == (earlier.training.output_dir.name, "supervised")
    assert (parent.name, parent.kind) == (second.output_dir.name, "supervised")
    assert not earlier.training.report().config.lineage


def test_an_adapter_of_other_weights_of_the_base_model_is_refused(studio: Studio, earlier: Earlier) -> None:
    other = studio.folder / "models" / "tiny"
    shutil.copytree(studio.models_dir / "tiny", other)
    weights = load_file(other / "model.safetensors")
    weights["decoder.lm_heads.0.weight"][0, 0] += 1
    save_file(weights, other / "model.safetensors", metadata={"format": "pt"})
    studio.models_dir = other.parent

    with pytest.raises(
        StartAdapterUnsuitable, match=r"trained on another base model.*give the base model that it was trained on"
    ):
        studio.train(earlier.samples, start=earlier.adapter)


def _cut(folder: Path) -> None:
    with (folder / "adapter_model.safetensors").open("r+b") as file:
        file.truncate(1000)


def _lose_a_layer(folder: Path) -> None:
    tensors = tensor_files.read(folder / "adapter_model.safetensors")
    tensors.pop(min(tensors))
    tensor_files.write(folder / "adapter_model.safetensors", tensors)


@pytest.mark.parametrize(
    ("damage", "settings", "message"),
    [
        pytest.param(_cut, {}, "cannot be read .*; fetch or export it again", id="cut off"),
        pytest.param(_lose_a_layer, {}, "has other layers or another rank", id="a layer is missing"),
        pytest.param(
            lambda folder: (folder / "adapter_model.safetensors").unlink(), {}, "fetch or export it again", id="no file"
        ),
        pytest.param(lambda _: None, {"lora_r": 4}, "another rank than lora_r 4 .*leave lora_r", id="another rank"),
        pytest.param(lambda _: None, {"lora_targets": "LORA_TARGETS_WIDE"}, "leave lora_r, lora_targets", id="layers"),
    ],
)
def test_an_adapter_that_does_not_fit_is_refused_with_the_next_step(
    studio: Studio, earlier: Earlier, damage: Callable[[Path], None], settings: dict[str, Any], message: str
) -> None:
    adapter = studio.folder / "damaged"
    shutil.copytree(earlier.adapter, adapter)
    damage(adapter)

    with pytest.raises(StartAdapterUnsuitable, match=message):
        studio.train(earlier.samples, start=adapter, adapter=settings)
    assert studio.telemetry.events == []


def test_a_training_from_an_adapter_is_resumed_bit_by_bit_and_only_with_that_adapter(
    studio: Studio, earlier: Earlier
) -> None:
    other = studio.folder / "other"
    shutil.copytree(earlier.adapter, other)
    tensors = tensor_files.read(other / "adapter_model.safetensors")
    tensor_files.write(other / "adapter_model.safetensors", {name: torch.ones_like(t) for name, t in tensors.items()})

    def stop(telemetry: Telemetry) -> bool:
        return telemetry.last_step() >= 3

    whole = studio.train(earlier.samples, start=earlier.adapter, training={"epochs": 3})
    first = studio.train(earlier.samples, start=earlier.adapter, training={"epochs": 3}, stop=stop)
    second = studio.resume(first, earlier.samples, start=earlier.adapter, training={"epochs": 3})

    assert first.rows() + second.rows() == whole.rows()
    assert second.adapter() == whole.adapter()
    for start in (other, None):
        with pytest.raises(StartAdapterUnsuitable, match=r"from another adapter; resume with that, or start a new run"):
            studio.resume(first, earlier.samples, start=start, training={"epochs": 3})
