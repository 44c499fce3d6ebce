"""A client in JavaScript, knowing nothing but what reflection tells it, trains and watches."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from tests.clients.conftest import Installation
from tests.rules.sources import ROOT


@pytest.mark.timeout(280)
def test_a_client_in_javascript_submits_a_run_and_follows_its_metrics_to_the_end(
    installation: Installation, node_js: tuple[str, dict[str, str]], clip: Path
):
    node, environment = node_js
    program = str(ROOT / "tests" / "clients" / "node" / "client.cjs")

    done = subprocess.run(
        [node, program, installation.control_plane, str(clip), "tiny"],
        env=environment, capture_output=True, text=True, timeout=240,
    )  # fmt: skip

    assert done.returncode == 0, done.stderr + installation.log.read_text()[-3000:]
    seen = json.loads(done.stdout)
    assert seen["steps"] == [1, 2, 3, 4, 5, 6], "two clips pass the threshold; three epochs, a row a step, none twice"
    assert all(0 < loss < 100 for loss in seen["losses"])
    assert seen["state"] == "RUN_STATE_SUCCEEDED"
    assert seen["adapter_id"].startswith("adp_")
    assert seen["refused"] == 9, "cancelling a run that has ended is FAILED_PRECONDITION"
