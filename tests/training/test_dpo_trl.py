"""The contract with TRL: every private point of it that training from pairs relies on, by name.

A release that changes one of them fails here first. What it means for us stands in docs/adr/0016.
"""

from __future__ import annotations

import inspect
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import trl.trainer.base_trainer
from trl import DPOTrainer

from tests.training import preference_studio
from tests.training.preference_studio import trained_parts
from tests.training.studio import Studio
from trainer_node.engines.musicgen import dpo, family
from trainer_node.engines.musicgen.dpo import DpoTrainer
from trainer_node.engines.musicgen.session import Parts


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory, models_dir: Path, cache_dir: Path) -> Parts:
    """What a trainer is built of."""
    studio = Studio(tmp_path_factory.mktemp("trl"), models_dir, cache_dir)
    return trained_parts(studio, preference_studio.comparisons(studio, 6), training={"epochs": 1})


@pytest.fixture
def untouched(parts: Parts, models_dir: Path) -> Parts:
    """The same with a model that no trainer has had."""
    base = family.load_base(models_dir / "tiny", name="tiny")
    return replace(parts, model=family.add_lora(base, preference_studio.spec("dpo").dpo.adapter, dtype=torch.float32))


@pytest.fixture
def trainer(parts: Parts) -> DpoTrainer:
    """A trainer with the supervised term, as there is one loss more then."""
    return DpoTrainer(parts, preference_studio.spec("dpo", sft_weight=0.5).dpo)


class Recorder:
    """Passes on what is read of another object, and remembers the names."""

    def __init__(self, whole: Any) -> None:
        self.whole = whole
        self.names: set[str] = set()

    def __getattr__(self, name: str) -> Any:
        self.names.add(name)
        return getattr(self.whole, name)


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("_compute_loss", ["self", "model", "inputs", "return_outputs"]),
        ("_prepare_dataset", ["self", "dataset", "processing_class", "args", "dataset_name"]),
        ("_send_telemetry", ["self"]),
    ],
)
def test_a_method_that_is_called_or_replaced_takes_what_it_took(name: str, parameters: list[str]) -> None:
    assert list(inspect.signature(getattr(DPOTrainer, name)).parameters) == parameters


@pytest.mark.parametrize("name", ["loss_types", "loss_weights", "beta", "precompute_ref_logps", "_metrics"])
def test_an_attribute_that_is_read_or_set_is_what_the_loss_goes_by(name: str, trainer: DpoTrainer) -> None:
    assert name in vars(trainer)
    assert f"self.{name}" in inspect.getsource(DPOTrainer._compute_loss)


def test_compute_loss_reads_of_the_model_just_what_scored_has(trainer: DpoTrainer, parts: Parts) -> None:
    batch = trainer.method.collate(parts.prepared.training)
    scored = Recorder(dpo.Scored(dpo.score(parts.model, batch)))
    asked: dict[str, Any] = {}

    def view(**given: Any) -> Recorder:
        asked.update(given)
        return scored

    call_trl(trainer, batch, view)

    assert scored.names == {"log_probs", "entropy", "mean_logits", "is_top1"}
    assert asked.keys() == {"input_ids", "attention_mask", "use_cache", "labels", "fused_lm_head"}


def test_compute_loss_reads_of_accelerate_just_what_its_stand_in_has(trainer: DpoTrainer, parts: Parts) -> None:
    batch = trainer.method.collate(parts.prepared.training)
    scored = dpo.Scored(dpo.score(parts.model, batch))
    recorder = Recorder(trainer.accelerator)
    with trainer._trl_metrics_dropped():
        stand_in = set(vars(trainer.accelerator))

    trainer.accelerator = recorder
    call_trl(trainer, batch, lambda **_: scored)

    assert recorder.names <= stand_in


def call_trl(trainer: DpoTrainer, batch: dpo.PairBatch, view: Any) -> None:
    """As DpoTrainer does it."""
    chosen_P, rejected_P = batch["reference_B"].chunk(2)
    target_BN = torch.nn.functional.pad(batch["labels_BKS"].flatten(1) != -100, (1, 0)).long()
    inputs = {"input_ids": target_BN, "attention_mask": target_BN, "completion_mask": target_BN}
    inputs |= {"ref_chosen_logps": chosen_P, "ref_rejected_logps": rejected_P}
    trainer._compute_loss(view, inputs, False)


def test_what_trl_logs_does_not_mix_with_what_is_ours(trainer: DpoTrainer, parts: Parts) -> None:
    batch = trainer.method.collate(parts.prepared.training)
    accelerator = trainer.accelerator

    trainer.compute_loss(parts.model, batch)

    assert trainer._metrics["train"].keys() == set(dpo.METRICS)
    assert {len(values) for values in trainer._metrics["train"].values()} == {len(parts.prepared.training)}
    assert trainer.accelerator is accelerator


@pytest.mark.parametrize("gradient_checkpointing", [False, True])
def test_the_constructor_leaves_the_model_as_it_was(untouched: Parts, gradient_checkpointing: bool) -> None:
    untouched.model.config.use_cache = False  # that is transformers' Trainer's
    before = described(untouched.model)
    arguments = {**untouched.arguments, "activation_checkpointing": gradient_checkpointing}

    DpoTrainer(replace(untouched, arguments=arguments), preference_studio.spec("dpo").dpo)

    assert described(untouched.model) == before


def test_training_leaves_nothing_of_trl_in_the_model(parts: Parts) -> None:
    now = described(parts.model)

    assert (now["adapters"], now["active"], now["hooks"]) == (["default"], ["default"], [])
    assert not {"forward", "model_tags"} & set(now["own"])
    assert all(".default." in name for name in now["trained"])


def described(model: Any) -> dict[str, Any]:
    """Everything of a model that TRL's constructor is known to change, and more."""
    inner = model.get_base_model()
    return {
        "config": inner.config.to_dict(),
        "config's own": sorted(vars(inner.config)),
        "generation": inner.generation_config.to_dict(),
        "own": sorted(vars(inner)),
        "adapters": list(model.peft_config),
        "active": list(model.active_adapters),
        "trained": [name for name, part in model.named_parameters() if part.requires_grad],
        "weights": {name: float(part.double().sum()) for name, part in model.state_dict().items()},
        "hooks": [name for name, part in model.named_modules() if part._forward_hooks or part._forward_pre_hooks],
    }


@pytest.mark.parametrize(
    "change",
    ["get_text_config", "pad_token_id of the decoder", "pad_token_id of generation", "forward", "model_tags", "ref"],
)
def test_what_is_put_back_is_what_trl_changes(untouched: Parts, change: str) -> None:
    inner = untouched.model.get_base_model()
    pads = (inner.config.decoder.pad_token_id, inner.generation_config.pad_token_id)
    seen: dict[str, bool] = {}

    class Looking(DpoTrainer):
        """Looks at the model before it is put back."""

        def follow(self, *args: Any) -> None:
            seen["get_text_config"] = ambiguous(inner)
            seen["pad_token_id of the decoder"] = inner.config.decoder.pad_token_id != pads[0]
            seen["pad_token_id of generation"] = inner.generation_config.pad_token_id != pads[1]
            seen["forward"] = "forward" in vars(inner)
            seen["model_tags"] = "trl" in (vars(inner).get("model_tags") or [])
            seen["ref"] = "ref" in untouched.model.peft_config
            super().follow(*args)

    Looking(untouched, preference_studio.spec("dpo").dpo)

    assert seen[change]


def ambiguous(inner: Any) -> bool:
    """Whether MusicGen's own configuration class still cannot say which of its parts is the text model."""
    with pytest.raises(ValueError, match="ambiguous"):
        type(inner.config).get_text_config(inner.config)
    return True


def test_nothing_is_told_to_others(parts: Parts, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[str] = []
    monkeypatch.setattr(trl.trainer.base_trainer, "send_telemetry", lambda topic, **_: told.append(topic))
    monkeypatch.delenv("CI", raising=False)

    DpoTrainer(parts, preference_studio.spec("dpo").dpo)

    assert told == []


def test_the_constructor_leaves_the_random_numbers_of_the_seed_to_training(untouched: Parts) -> None:
    torch.manual_seed(untouched.arguments["seed"])
    expected = torch.random.get_rng_state()

    DpoTrainer(untouched, preference_studio.spec("dpo").dpo)

    torch.testing.assert_close(torch.random.get_rng_state(), expected, rtol=0, atol=0)
