"""From one file of ratings: a supervised adapter, DPO from it, and ranking from that, in the foreground."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.unit.dataset_files import jsonl
from tests.unit.sounds import tone, write
from trainer_node import __main__, report
from trainer_node.start_adapter import adopt
from tunesmith.v1 import job_spec_pb2

PROMPTS = ("slow piano", "fast drums", "calm pad")
SHORT = {"training": {"epochs": 1, "batch_size": 2, "log_every_steps": 1}, "validation": {"validation_fraction": 0.3}}


@pytest.fixture
def ratings(tmp_path: Path) -> Path:
    """Three clips of each prompt, rated 5, 3 and 1."""
    rows = []
    for number, rating in enumerate([5, 3, 1] * len(PROMPTS)):
        write(tmp_path / f"{number}.wav", "wav", tone(duration_s=0.3 + number / 50))
        rows.append({"audio": f"{number}.wav", "prompt": PROMPTS[number // 3], "rating": rating})
    return jsonl(tmp_path, *rows)


def test_a_supervised_adapter_is_gone_on_with_by_dpo_and_that_by_ranking(
    tmp_path: Path, models_dir: Path, ratings: Path, capfd: pytest.CaptureFixture[str]
):
    def train(kind: str, *options: str, **settings: object) -> Path:
        job, output = tmp_path / f"{kind}.yaml", tmp_path / kind
        job.write_text(json.dumps({kind: SHORT | settings}))
        where = ["--dataset", str(ratings), "--output", str(output), "--models-dir", str(models_dir)]
        assert __main__.main([str(job), *where, *options]) == 0, capfd.readouterr().err
        return output / "adapter"

    shape = {"base_model": "tiny", "lora_r": 4, "lora_alpha": 6, "lora_targets": "attention_ffn"}
    supervised = train("supervised", adapter=shape)
    dpo = train("dpo", "--start-adapter", str(supervised))
    ranking = train("ranking", "--start-adapter", str(dpo), "--min-rating-gap", "2.5")

    config = report.read_config(ranking / report.CONFIG)
    assert [(origin.kind, origin.name) for origin in config.lineage] == [("supervised", "supervised"), ("dpo", "dpo")]
    its_own = config.spec.ranking.adapter
    assert (its_own.base_model, its_own.lora_r, its_own.lora_alpha) == ("tiny", 4, 6)
    assert config.derivation.ranked_lists.min_rating_gap == 2.5
    assert (config.training_samples, config.validation_samples) == (2, 1)
    assert report.read_config(dpo / report.CONFIG).derivation.count == 9
    printed = capfd.readouterr().out
    assert "9 pairs from 3 prompts\n" in printed
    assert "3 ranked lists from 3 prompts, 3 ties skipped\n" in printed


@pytest.mark.parametrize("targets", ["attention", "attention_ffn", "wide"])
def test_the_layers_of_an_adapter_are_known_by_what_peft_writes(
    tmp_path: Path, models_dir: Path, ratings: Path, targets: str
):
    job = tmp_path / "job.yaml"
    adapter = {"base_model": "tiny", "lora_r": 2, "lora_targets": targets}
    job.write_text(json.dumps({"supervised": SHORT | {"adapter": adapter}}))
    where = ["--dataset", str(ratings), "--output", str(tmp_path / "out"), "--models-dir", str(models_dir)]
    assert __main__.main([str(job), *where]) == 0

    adopted = adopt(job_spec_pb2.JobSpec(dpo={}), tmp_path / "out" / "adapter").dpo.adapter

    assert job_spec_pb2.LoraTargets.Name(adopted.lora_targets) == f"LORA_TARGETS_{targets.upper()}"
    assert (adopted.lora_r, adopted.lora_alpha, adopted.base_model) == (2, 32, "tiny")
