"""Runs from preferences, through the programs that a user starts: a chain of adapters, and what a kill leaves."""

from __future__ import annotations

import random
import signal
from typing import Any

import pytest

from tests.support.installation import Installation, wait_for
from tunesmith import spec as specs
from tunesmith.v1 import adapter_pb2, job_spec_pb2, run_pb2


def short_training(kind: str, **changes: dict[str, Any]) -> job_spec_pb2.JobSpec:
    """Some 2 to 4 steps an epoch; LoRA drops some of its input, so that its random stream counts."""
    settings: dict[str, dict[str, Any]] = {
        "adapter": {"lora_dropout": 0.05},
        "training": {"epochs": 10, "batch_size": 2, "learning_rate": 3e-3, "log_every_steps": 1},
        "validation": {"validation_fraction": 0.2},
        "checkpoints": {"checkpoint_every_steps": 3},
    }
    changed = {group: settings[group] | values for group, values in changes.items()}
    return specs.parse({kind: settings | changed}, job_spec_pb2.JobSpec())


async def test_a_chain_of_adapters_is_trained_and_its_lineage_shows(installation: Installation) -> None:
    installation.start_control_plane()
    installation.start_node()
    experiment_id = installation.new_experiment(clips=installation.materials.shared)

    versions = {"ranking": installation.freeze_lists(experiment_id)}  # it would take the pairs of dpo as well
    adapters: list[adapter_pb2.Adapter] = []
    for kind in ("supervised", "dpo", "ranking"):
        adapter = {"start_adapter_id": adapters[-1].adapter_id} if adapters else {"base_model": "tiny", "lora_r": 4}
        spec = short_training(kind, adapter=adapter, training={"epochs": 2})
        run_id = installation.submit(experiment_id, spec, dataset_version_id=versions.get(kind, ""))
        run = installation.ended(run_id)
        assert run.state == run_pb2.RUN_STATE_SUCCEEDED, run
        request = adapter_pb2.GetAdapterRequest(adapter_id=run.adapter_id)
        adapters.append(installation.client.adapters.GetAdapter(request).adapter)

    supervised, dpo, ranking = adapters
    lineage = ranking.training_config.lineage
    assert [(one.adapter_id, one.version, one.kind) for one in lineage] == [
        (supervised.adapter_id, 1, "supervised"),
        (dpo.adapter_id, 2, "dpo"),
    ]
    assert [adapter.start_adapter_id for adapter in adapters] == ["", supervised.adapter_id, dpo.adapter_id]
    its_own = ranking.training_config.spec.ranking.adapter
    assert (its_own.base_model, its_own.lora_r) == ("tiny", 4)
    assert dpo.training_config.derivation.HasField("pairs") and dpo.training_config.derivation.count > 10
    assert ranking.training_config.derivation.ranked_lists.max_list_size > 0
    report = installation.client.adapters.GetAdapterReport(
        adapter_pb2.GetAdapterReportRequest(adapter_id=ranking.adapter_id)
    )
    assert {"rank/kendall_tau", "eval_rank/kendall_tau"} <= set(report.report.final_metrics)
    assert "supervised trial@1 → dpo trial@2 → ranking this adapter" in report.markdown
    names = {name for name, _ in installation.metrics(dpo.run_id)}
    assert {"rewards/margin", "eval_rewards/accuracy", "logps/chosen", "eval_loss"} <= names


@pytest.mark.parametrize(("kind", "epochs"), [("dpo", 8), ("ranking", 30)])  # some 60 steps
async def test_losses_after_a_kill_at_a_random_step_are_bit_identical_to_an_uninterrupted_run(
    installation: Installation, kind: str, epochs: int
) -> None:
    installation.start_control_plane()
    installation.start_node()
    experiment_id = installation.new_experiment(clips=installation.materials.shared)
    spec = short_training(kind, adapter={"base_model": "tiny", "lora_r": 4}, training={"epochs": epochs})
    whole = installation.ended(installation.submit(experiment_id, spec))
    step = random.SystemRandom().randint(4, whole.total_steps // 2)

    broken = installation.submit(experiment_id, spec)
    installation.run_at_step(broken, step)
    wait_for(lambda: installation.checkpoints(broken), within_s=20)
    installation.training_process().kill()
    failure = installation.ended(broken, within_s=20).failure
    resumed = installation.client.runs.ResumeRun(run_pb2.ResumeRunRequest(run_id=broken)).run
    run = installation.ended(resumed.run_id)

    assert (failure.reason, failure.exit_code) == ("PROCESS_DIED", -signal.SIGKILL)
    assert run.state == run_pb2.RUN_STATE_SUCCEEDED, run
    assert 0 < run.resumed_from_step < run.total_steps, f"killed at step {step} or soon after"
    expected, before, after = (installation.metrics(each) for each in (whole.run_id, broken, run.run_id))
    assert after == {key: value for key, value in expected.items() if key[1] > run.resumed_from_step}
    assert {key: expected[key] for key in before} == before
    assert run.final_loss == whole.final_loss
