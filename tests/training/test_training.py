"""What a training does to an adapter, and that the adapter is one for everybody."""

from __future__ import annotations

import json
import math

import pytest
import torch
from google.protobuf import json_format
from peft import PeftModel
from safetensors.torch import load_file
from transformers import MusicgenForConditionalGeneration

from tests.training.studio import Studio, spec
from trainer_node import preflight, report, report_page
from trainer_node.engines.musicgen import family, loop, losses
from trainer_node.engines.musicgen.examples import Example
from trainer_node.engines.musicgen.features import Features
from trainer_node.engines.musicgen.supervised import Supervised
from trainer_node.engines.registry import engine_for
from trainer_node.errors import TrainingKindUnavailable
from trainer_node.training import TrainingSample
from tunesmith.v1 import job_event_pb2


@pytest.mark.parametrize("base_model", ["tiny", "tiny-stereo"])
def test_training_lowers_the_loss(studio: Studio, base_model: str) -> None:
    samples = studio.samples(10)

    done = studio.train(samples, adapter={"base_model": base_model}, training={"epochs": 16})

    losses_seen, evaluations = done.metric("loss"), done.metric("eval_loss")
    assert losses_seen[-1] < 0.7 * losses_seen[0]
    assert evaluations[-1] < 0.85 * evaluations[0]
    assert all(math.isfinite(value) for _, row in done.rows() for value in row.values())


@pytest.mark.parametrize("targets", ["LORA_TARGETS_ATTENTION", "LORA_TARGETS_ATTENTION_FFN", "LORA_TARGETS_WIDE"])
def test_the_adapter_loads_in_plain_peft_with_equal_loss(studio: Studio, targets: str) -> None:
    samples = studio.samples(5)
    done = studio.train(samples, adapter={"lora_targets": targets}, training={"epochs": 3, "learning_rate": 0.02})
    [held_out_loss] = done.metric("eval_loss")[-1:]

    plain = MusicgenForConditionalGeneration.from_pretrained(studio.models_dir / "tiny")
    model = PeftModel.from_pretrained(plain, done.output_dir / "adapter").eval()
    base = family.load_base(studio.models_dir / "tiny", name="tiny")
    [held_out] = held_out_samples(samples)
    batch = family.collate(Features(base, studio.cache_dir, max_clip_s=30).clips([held_out], lambda: False), channels=1)
    with torch.no_grad():
        loss = losses.clip_nll(family.score(model, batch), batch["labels_BKS"]).mean()
        before = losses.clip_nll(family.score(base.model, batch), batch["labels_BKS"]).mean()

    assert done.report().best_loss == held_out_loss  # the last is the best, so it is the adapter's
    torch.testing.assert_close(float(loss), held_out_loss, rtol=1e-6, atol=0)
    assert float(before) - float(loss) > 0.5


def held_out_samples(samples: list[TrainingSample]) -> list[TrainingSample]:
    settings = spec().supervised
    return preflight.split(samples, fraction=settings.validation.validation_fraction, seed=settings.training.seed)[1]


def test_the_adapter_folder_names_the_base_model_and_no_path(studio: Studio) -> None:
    done = studio.train(studio.samples(4), training={"epochs": 1})

    folder = done.output_dir / "adapter"
    config = json.loads((folder / "adapter_config.json").read_text())
    card = (folder / "README.md").read_text()
    assert sorted(path.name for path in folder.iterdir()) == [
        "README.md",
        "adapter_config.json",
        "adapter_model.safetensors",
        "training_config.json",
    ]
    assert (config["base_model_name_or_path"], config["inference_mode"]) == ("tiny", True)
    assert "base_model: tiny" in card
    assert str(studio.folder) not in card + json.dumps(config)
    assert [file.path for file in done.result().adapter_files] == sorted(path.name for path in folder.iterdir())


def test_bf16_trains_a_32_bit_adapter_and_previews(studio: Studio) -> None:
    done = studio.train(
        studio.samples(10),
        training={"precision": "PRECISION_BF16", "epochs": 6},
        previews={"preview_prompts": ["low sine drone"], "preview_s": 0.5},
    )

    assert done.telemetry.events[0].started.device == "cpu bf16"
    assert done.metric("loss")[-1] < 0.8 * done.metric("loss")[0]
    tensors = load_file(done.output_dir / "adapter" / "adapter_model.safetensors")
    assert {tensor.dtype for tensor in tensors.values()} == {torch.float32}
    assert len(done.previews()) == 2


def test_the_same_seed_gives_the_same_adapter_and_another_one_another(studio: Studio) -> None:
    samples = studio.samples(6)

    one, same, other = (studio.train(samples, training={"seed": seed}).adapter() for seed in (1, 1, 2))

    assert one == same != other


def test_started_says_what_is_trained(studio: Studio) -> None:
    done = studio.train(studio.samples(10), training={"epochs": 3, "gradient_accumulation_steps": 2})

    assert done.telemetry.events[0].started == job_event_pb2.JobStarted(
        total_steps=3,
        total_epochs=3,
        training_samples=8,
        validation_samples=2,
        device="cpu fp32",
        trainable_parameters=2 * 2 * 4 * 2 * 64 * 8,  # layers, attentions, projections, two matrices of 64 by 8
    )


def test_metrics_come_at_every_log_step_and_at_the_last(studio: Studio) -> None:
    done = studio.train(studio.samples(10), training={"epochs": 7, "batch_size": 8, "log_every_steps": 3})

    rows = [(step, list(row)) for step, row in done.rows() if "loss" in row]
    assert rows == [(step, ["loss", "learning_rate", "grad_norm"]) for step in (3, 6, 7)]
    assert [step for step, row in done.rows() if list(row) == ["eval_loss"]] == list(range(1, 8))


def test_each_metric_row_is_a_line_worth_reading(studio: Studio, capfd: pytest.CaptureFixture[str]) -> None:
    done = studio.train(studio.samples(10), training={"epochs": 1, "batch_size": 8})

    captured = capfd.readouterr()
    [loss], [norm], [held_out] = done.metric("loss"), done.metric("grad_norm"), done.metric("eval_loss")
    lines = captured.out.splitlines()
    assert f"step=1/1 epoch=1.00 loss={loss:.6g} learning_rate=0.005 grad_norm={norm:.6g}" in lines
    assert f"step=1/1 epoch=1.00 eval_loss={held_out:.6g}" in lines
    assert captured.err == ""


def test_the_configuration_and_the_report_stand_in_the_output(studio: Studio) -> None:
    done = studio.train(studio.samples(10), training={"epochs": 4})

    told = done.report()
    config = json_format.Parse((done.output_dir / "training_config.json").read_text(), job_event_pb2.TrainingConfig())
    text = (done.output_dir / "report.md").read_text()
    assert told.config == config
    assert config.spec == spec(training={"epochs": 4})
    assert len(config.base_model_fingerprint) == 64
    assert config.packages["torch"] == torch.__version__
    assert (told.steps, told.epochs, told.final_loss) == (8, 4.0, done.metric("loss")[-1])
    assert list(told.training_loss.values) == done.metric("loss")
    assert f"{told.best_loss:.4f} nats a token, at step {told.best_step}" in text
    assert report_page.sparkline(done.metric("loss")) in text
    assert "| training.learning_rate | 0.005 |" in text
    assert done.result().report_json.path == "report.json"


def test_a_curve_in_a_report_is_thinned_and_keeps_its_ends() -> None:
    thinned = report.curve([(step, float(step)) for step in range(1, 5001)])

    assert len(thinned.steps) == 1000
    assert (thinned.steps[0], thinned.steps[-1]) == (1, 5000)
    assert list(thinned.steps) == sorted(set(thinned.steps))


def test_a_sparkline_leaves_gaps_where_there_is_no_number() -> None:
    assert report_page.sparkline([3.0, 2.0, float("nan"), 1.0]) == "█▅ ▁"
    assert report_page.sparkline([float("nan")]) == " "
    assert report_page.sparkline([1.0, 1.0]) == "▁▁"
    assert len(report_page.sparkline([1.0] * 500)) == 60


def test_prompts_are_dropped_at_the_asked_rate_in_training_only(
    base: family.BaseModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    method = Supervised(channels=1, prompt_dropout=0.25, seed=3)
    masks = []

    def score(model: object, batch: family.Batch, *, without_prompt_B: torch.Tensor | None = None) -> torch.Tensor:
        masks.append(without_prompt_B)
        return torch.zeros(*batch["labels_BKS"].shape, 64)

    monkeypatch.setattr(family, "score", score)
    batch = method.collate([Example((family.Clip(torch.zeros(4, 5, dtype=torch.int16), torch.zeros(3, 48)),))] * 400)
    method.loss(None, batch, None)
    method.evaluate(None, batch)

    assert masks[0] is not None and 70 < int(masks[0].sum()) < 130
    assert masks[1] is None


def test_steps_are_counted_as_the_loop_counts_them(studio: Studio) -> None:
    settings = spec(training={"batch_size": 3, "gradient_accumulation_steps": 2, "epochs": 2}).supervised.training

    assert [loop.steps_per_epoch(n, settings) for n in (1, 3, 6, 7, 12, 13)] == [1, 1, 1, 2, 2, 3]
    assert loop.total_steps(7, settings) == 4


def test_a_kind_that_has_no_engine_is_refused_by_name() -> None:
    with pytest.raises(TrainingKindUnavailable, match="cannot train karaoke; it trains: "):
        engine_for("karaoke")


def test_a_training_of_one_step_learns_in_it(studio: Studio) -> None:
    done = studio.train(studio.samples(3), training={"epochs": 1}, validation={"validation_fraction": 0})

    assert done.metric("learning_rate") == [0.005]
    assert any(
        tensor.any()
        for name, tensor in load_file(done.output_dir / "adapter" / "adapter_model.safetensors").items()
        if "lora_B" in name
    )
