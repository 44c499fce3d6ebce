"""Runs that cannot succeed: what the user is told, and that nothing is registered."""

from __future__ import annotations

from tests.support.installation import Installation, small_training
from tunesmith.v1 import adapter_pb2, run_pb2


async def test_a_missing_base_model_fails_the_run_with_a_next_step_and_registers_nothing(
    installation: Installation,
) -> None:
    installation.start_control_plane()
    installation.start_node()
    spec = small_training()
    spec.supervised.adapter.base_model = "no-such-model"

    run = installation.ended(installation.submit(installation.new_experiment(), spec))

    assert run.state == run_pb2.RUN_STATE_FAILED
    assert run.failure.reason == "BASE_MODEL_UNAVAILABLE"
    assert "no-such-model" in run.failure.message and "models" in run.failure.message
    assert "Traceback" not in run.failure.message
    assert run.failure.exit_code == 1
    assert not installation.client.adapters.ListAdapters(adapter_pb2.ListAdaptersRequest()).adapters
