"""Clips on the command line against the control plane itself: real sockets, real Postgres."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
import structlog.testing

from tests.cli.conftest import Result, Run
from tests.contract import clips
from tests.support.control_plane import Plane, fresh
from tunesmith.v1 import adapter_pb2, run_pb2

Real = Callable[..., Awaitable[Result]]


@pytest.fixture
def real(cli: Run, plane: Plane) -> Real:
    """Runs a command line against the real control plane, beside the loop that serves it."""

    async def run(*args: str) -> Result:
        with structlog.testing.capture_logs():  # the server's, which would print to the same stdout here
            return await asyncio.to_thread(cli, "--server", plane.address, *args)

    return run


async def test_from_prompts_to_files_that_are_named_by_prompt_and_seed(
    real: Real, plane: Plane, tmp_path: Path
) -> None:
    name = fresh("listening")
    await clips.player(plane)
    adapter_id = await plane.finish((await plane.new_run()).run_id, {"adapter_config.json": b"{}"})
    adapter = (await plane.adapters.GetAdapter(adapter_pb2.GetAdapterRequest(adapter_id=adapter_id))).adapter
    (tmp_path / "prompts.txt").write_text("fast, high scale\na drum\n")
    (tmp_path / "run.yaml").write_text("{training_type: generate, prompts_file: prompts.txt, generation: {seed: 3}}")
    created = await real("experiment", "create", name, "--training-type", "generate", "--set", "clips_per_prompt=2")

    submitted = await real(
        *("run", "submit", str(tmp_path / "run.yaml"), "--experiment", name, "-d", "-o", "json"),
        *("--adapter", f"{adapter.name}@{adapter.version}"),
    )
    run_id = submitted.json["run"]["run_id"]
    await clips.play(plane, (await plane.runs.GetRun(run_pb2.GetRunRequest(run_id=run_id))).run)
    watched = await real("run", "watch", run_id)
    resumed = await real("run", "resume", run_id)
    report = await real("run", "report", run_id)
    await real("run", "previews", run_id, "--to", str(tmp_path / "clips"))

    assert f"run submit --experiment {name} --base-model facebook/musicgen-small --prompts-file PROMPTS" in created.err
    assert submitted.json["run"]["spec"]["generate"]["player"] == {"base_model": "tiny", "adapter_id": adapter_id}
    assert watched.code == 0
    assert (resumed.code, report.code) == (4, 4)
    assert "error[RUN_NOT_RESUMABLE]" in resumed.err and "error[REPORT_NOT_READY]" in report.err
    assert {path.name: path.read_bytes() for path in (tmp_path / "clips").iterdir()} == {
        "prompt0-fast-high-scale-seed3.wav": b"RIFF fast, high scale 3",
        "prompt0-fast-high-scale-seed4.wav": b"RIFF fast, high scale 4",
        "prompt1-a-drum-seed3.wav": b"RIFF a drum 3",
        "prompt1-a-drum-seed4.wav": b"RIFF a drum 4",
    }
