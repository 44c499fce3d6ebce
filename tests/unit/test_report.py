"""The page that a training leaves for people: in the words of its kind."""

from __future__ import annotations

from pathlib import Path

import pytest

from trainer_node import config_words, report_page
from tunesmith.v1 import dataset_pb2, job_event_pb2, job_spec_pb2

DPO = job_event_pb2.TrainingConfig(
    spec=job_spec_pb2.JobSpec(dpo={}),
    training_samples=272,
    validation_samples=40,
    lineage=[
        job_event_pb2.AdapterOrigin(adapter_id="adp_1", name="my-taste", version=1, kind="supervised"),
        job_event_pb2.AdapterOrigin(adapter_id="adp_2", name="my-taste", version=2, kind="dpo"),
    ],
    derivation=dataset_pb2.Derivation(pairs={}, count=312, prompt_count=140, tie_count=41),
)


def page(tmp_path: Path, report: job_event_pb2.TrainingReport) -> str:
    previews = [report_page.PreviewFile(step=0, prompt="low drone", path="previews/a.wav")]
    return report_page.write(tmp_path / "report.md", report, previews).read_text(encoding="utf-8")


def test_a_training_from_pairs_tells_its_metrics_its_data_and_where_it_comes_from(tmp_path: Path) -> None:
    metrics = {"rewards/margin": 0.75, "eval_rewards/margin": 0.5, "logps/chosen": -812.0}
    report = job_event_pb2.TrainingReport(config=DPO, final_loss=0.5, best_loss=0.25, final_metrics=metrics)

    text = page(tmp_path, report)

    assert "| Final training loss | 0.5000 |" in text
    assert "| Best validation loss | 0.2500, at step 0 |" in text
    assert "| rewards/margin, last | 0.7500 in training, 0.5000 in validation |" in text
    assert "| logps/chosen, last | -812.0000 in training |" in text
    assert "| Data | 272 pairs, 40 held out |" in text
    assert "| derived | 312 pairs from 140 prompts, 41 ties skipped |" in text
    assert "| lineage | supervised my-taste@1 → dpo my-taste@2 → dpo this adapter |" in text
    assert "Step 0 is the adapter that the training started from" in text


def test_a_supervised_training_tells_its_loss_in_nats_a_token_and_its_clips(tmp_path: Path) -> None:
    config = job_event_pb2.TrainingConfig(spec=job_spec_pb2.JobSpec(supervised={}), training_samples=1)

    text = page(tmp_path, job_event_pb2.TrainingReport(config=config, final_loss=2, best_loss=2))

    assert "| Final training loss | 2.0000 nats a token |" in text
    assert "| Data | 1 clip, 0 held out |" in text
    assert "Step 0 is the base model" in text
    assert "derived" not in text and "lineage" not in text


def test_settings_are_shown_by_the_names_that_a_file_gives_them(tmp_path: Path) -> None:
    spec = job_spec_pb2.JobSpec(dpo={"loss": "DPO_LOSS_SIGMOID_NORM", "adapter": {"lora_r": 8}})
    config = job_event_pb2.TrainingConfig(spec=spec)

    text = page(tmp_path, job_event_pb2.TrainingReport(config=config))

    assert "| loss | sigmoid_norm |" in text
    assert "| adapter.lora_r | 8 |" in text


@pytest.mark.parametrize(
    ("spec", "derivation", "expected"),
    [
        ({"ranking": {}}, {"ranked_lists": {}}, "7 ranked lists"),
        ({"ranking": {}}, {"pairs": {}}, "7 pairs"),
        ({"ranking": {}}, {}, "7 ranked lists"),
        ({"dpo": {}}, {}, "7 pairs"),
        ({"supervised": {}}, {}, "7 clips"),
        ({"tiny_lm": {}}, {}, "7 paragraphs"),
    ],
)
def test_examples_are_called_what_they_are(
    spec: dict[str, object], derivation: dict[str, object], expected: str
) -> None:
    config = job_event_pb2.TrainingConfig(spec=spec, derivation=derivation)

    assert config_words.counted(config, 7) == expected
