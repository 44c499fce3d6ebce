"""A run from its submission to its adapter, through the programs that a user starts."""

from __future__ import annotations

import itertools
import json
import wave
from pathlib import Path

import torch
from peft import PeftModel
from transformers import MusicgenForConditionalGeneration

from tests.support.installation import Installation, ledger_of, small_training
from tunesmith.client.transfer import download_blob, pull_adapter
from tunesmith.v1 import adapter_pb2, job_spec_pb2, run_pb2


async def test_a_run_ends_with_a_registered_adapter_its_report_and_previews(
    installation: Installation, tmp_path: Path
) -> None:
    installation.start_control_plane()
    installation.start_node()
    spec = small_training(epochs=6)
    spec.supervised.previews.CopyFrom(
        job_spec_pb2.PreviewSettings(preview_prompts=["a slow organ melody"], preview_s=1, preview_every_epochs=3)
    )

    run_id = installation.submit(installation.new_experiment(), spec)
    run = installation.ended(run_id)

    assert run.state == run_pb2.RUN_STATE_SUCCEEDED, run
    assert run.attempt == 1 and run.step == run.total_steps > 0
    assert installation.metrics(run_id) == ledger_of(installation.spooled())
    assert installation.watched(run_id), "a watch that starts after the end gives everything and ends"
    losses = [value for (name, _), value in sorted(installation.metrics(run_id).items()) if name == "loss"]
    assert sum(losses[-4:]) < sum(losses[:4]), "it has learnt something"
    assert {"loss", "learning_rate", "grad_norm", "eval_loss"} <= {name for name, _ in installation.metrics(run_id)}
    assert any("loss=" in text for text in installation.log_texts(run_id))
    _check_previews(installation, run_id, tmp_path)
    _check_adapter(installation, run, tmp_path)
    _check_events(installation, run_id)


def _check_previews(installation: Installation, run_id: str, folder: Path) -> None:
    previews = installation.client.runs.ListPreviews(run_pb2.ListPreviewsRequest(run_id=run_id)).previews
    assert previews[0].step == 0, "the base model is heard first"
    assert len({preview.step for preview in previews}) == 3, "before, at the interval, and at the end"
    heard = download_blob(installation.client, previews[-1].file.digest, folder / "preview.wav")
    with wave.open(str(heard)) as sound:
        assert abs(sound.getnframes() / sound.getframerate() - 1) < 0.1
    assert previews[0].file.digest != previews[-1].file.digest, "the adapter is heard"


def _check_adapter(installation: Installation, run: run_pb2.Run, folder: Path) -> None:
    request = adapter_pb2.GetAdapterRequest(adapter_id=run.adapter_id)
    adapter = installation.client.adapters.GetAdapter(request).adapter
    assert (adapter.run_id, adapter.name, adapter.version) == (run.run_id, "trial", 1)
    assert adapter.dataset_version_id == run.dataset_version_id
    assert adapter.final_loss == run.final_loss
    assert adapter.training_config.spec == run.spec, "training_config.json tells what was resolved at submission"
    report = installation.client.adapters.GetAdapterReport(
        adapter_pb2.GetAdapterReportRequest(adapter_id=run.adapter_id)
    )
    assert report.report.final_loss == run.final_loss and report.report.steps == run.total_steps
    assert "torch" in report.report.config.packages and report.markdown.startswith("#")
    pull_adapter(installation.client, adapter, folder / "adapter")
    assert json.loads((folder / "adapter" / "adapter_config.json").read_text())["peft_type"] == "LORA"
    base = MusicgenForConditionalGeneration.from_pretrained(installation.materials.models_dir / "tiny")
    model = PeftModel.from_pretrained(base, folder / "adapter")
    weights = {name: value for name, value in model.named_parameters() if "lora_B" in name}
    assert weights and any(torch.any(value != 0) for value in weights.values()), "it is a trained adapter"


def _check_events(installation: Installation, run_id: str) -> None:
    events = installation.client.runs.ListRunEvents(run_pb2.ListRunEventsRequest(run_id=run_id)).events
    states = [run_pb2.RunState.Name(event.to_state).removeprefix("RUN_STATE_") for event in events]
    assert states == ["QUEUED", "STARTING", "RUNNING", "SUCCEEDED"]
    assert all(earlier.to_state == later.from_state for earlier, later in itertools.pairwise(events))
