"""The command line against the control plane itself: real sockets, real Postgres."""

from __future__ import annotations

import asyncio
import json
import os
import wave

import pytest
import structlog.testing

from tests.support.control_plane import fresh, small_spec
from tunesmith.client.transfer import digest_of
from tunesmith.v1 import run_pb2


@pytest.fixture
def real(cli, plane):
    """Runs a command line against the real control plane, beside the loop that serves it."""

    async def run(*args: str):
        with structlog.testing.capture_logs():  # the server's, which would print to the same stdout here
            return await asyncio.to_thread(cli, "--server", plane.address, *args)

    return run


@pytest.fixture
def rated(tmp_path):
    """A data set file of three clips that nobody else has."""
    rows = []
    for number, rating in enumerate((2, 4, 5)):
        with wave.open(str(tmp_path / f"{number}.wav"), "wb") as clip:
            clip.setparams((1, 2, 8_000, 0, "NONE", ""))
            clip.writeframes(os.urandom(8_000))
        rows.append({"audio": f"{number}.wav", "prompt": f"clip {number}", "rating": rating})
    file = tmp_path / "rated.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return file


async def test_from_clips_to_a_queued_run(real, rated, tmp_path):
    name = fresh("mine")

    imported = await real("dataset", "import", str(rated), "--to", name)
    again = await real("dataset", "import", str(rated), "--to", name)
    version = await real("dataset", "version", "create", name, "--min-rating", "4", "-o", "json")
    await real("dataset", "export", f"{name}@1", "--to", str(tmp_path / "out.jsonl"))
    await real("experiment", "create", name, "--dataset", name, "--set", "epochs=2")
    submitted = await real("run", "submit", "--experiment", name, "--base-model", "tiny", "-d", "-o", "json")

    assert "added=3 duplicates=0" in imported.out
    assert "added=0 duplicates=3" in again.out
    assert version.json["dataset_version"]["sample_count"] == "2"
    assert [json.loads(line)["rating"] for line in (tmp_path / "out.jsonl").read_text().splitlines()] == [4.0, 5.0]
    run = submitted.json["run"]
    assert run["state"] == "RUN_STATE_QUEUED"
    assert run["spec"]["supervised"]["training"]["epochs"] == 2
    cancelled = await real("run", "cancel", run["run_id"])
    assert cancelled.out == f"run_id={run['run_id']} state=CANCELLED\n"
    assert "there is no checkpoint to go on from; submit it again to begin anew" in cancelled.err
    assert (await real("run", "watch", run["run_id"])).code == 8
    assert (await real("run", "logs", "-f", run["run_id"])).code == 8


async def test_submitting_says_which_version_of_the_data_is_trained_on(real, rated):
    name = fresh("mine")
    await real("dataset", "import", str(rated), "--to", name)
    await real("experiment", "create", name, "--dataset", name)
    submit = ("run", "submit", "--experiment", name, "--base-model", "tiny", "-d")

    whole = await real(*submit)
    await real("dataset", "version", "create", name, "--min-rating", "5")
    newest = await real(*submit)
    older = await real(*submit, "--dataset-version", f"{name}@1", "--dry-run")

    assert f"trains on {name}@1: 3 of 3 samples (dsv_" in whole.err
    assert f"trains on {name}@2: 1 of 3 samples, those rated 5 or better (dsv_" in newest.err
    assert f"trains on {name}@1: 3 of 3 samples (dsv_" in older.err


async def test_a_clip_that_the_server_refuses_is_told_by_file_and_line(real, plane, rated):
    spoilt = digest_of(rated.parent / "1.wav")
    plane.inspector.refused[spoilt] = "the file ends early; export it again"

    result = await real("dataset", "import", str(rated), "--to", fresh("mine"))

    assert result.code == 2
    assert f"{rated}:2: " in result.err
    assert "the file ends early" in result.err


async def test_an_adapter_is_labelled_reported_and_pulled(real, plane, tmp_path):
    run = await plane.new_run()
    adapter_id = await plane.finish(run.run_id, {"adapter_config.json": b"{}", "adapter_model.safetensors": b"w" * 999})

    listed = await real("adapter", "list", "--experiment", run.experiment_id, "-o", "jsonl")
    labelled = await real("adapter", "label", adapter_id, "stage=prod", "-o", "json")
    report = await real("adapter", "report", adapter_id)
    pulled = await real("adapter", "pull", adapter_id[:29], str(tmp_path / "out"))

    assert [one["adapter_id"] for one in listed.json_lines] == [adapter_id]
    assert labelled.json["adapter"]["labels"] == {"stage": "prod"}
    assert report.out == "# Report\n"
    assert pulled.code == 0
    assert (tmp_path / "out" / "adapter_model.safetensors").read_bytes() == b"w" * 999


async def test_every_refusal_of_the_server_keeps_its_reason_and_exit_code(real, plane):
    run = await plane.new_run()
    experiment = await plane.new_experiment()
    unknown = "run_" + "0" * 26

    cases = {
        ("run", "get", unknown): (3, "RUN_NOT_FOUND"),
        ("run", "report", run.run_id): (4, "REPORT_NOT_READY"),
        ("run", "resume", run.run_id): (4, "RUN_NOT_RESUMABLE"),
        ("experiment", "create", experiment.name): (4, "NAME_TAKEN"),
        ("experiment", "create", "Not A Name"): (2, "INVALID_FIELD"),
        ("run", "submit", "--experiment", experiment.name, "--epochs", "0", "-d"): (2, "INVALID_FIELD"),
        ("dataset", "version", "delete", run.dataset_version_id, "-y"): (4, "DATASET_VERSION_IN_USE"),
        ("dataset", "version", "create", experiment.dataset_id, "--min-rating", "5"): (0, ""),
    }
    for args, (code, reason) in cases.items():
        result = await real(*args)

        assert (result.code, f"error[{reason}]" in result.err) == (code, bool(reason)), (args, result)


async def test_an_experiment_changes_only_where_it_is_told_to(real, plane):
    experiment = await plane.new_experiment()

    await real("experiment", "update", experiment.name, "--set", "epochs=7", "--label", "a=b", "--label", "c=d")
    result = await real("experiment", "update", experiment.name, "--label", "a=", "--description", "new", "-o", "json")

    after = result.json["experiment"]
    assert after["labels"] == {"c": "d"}
    assert after["description"] == "new"
    assert after["dataset_id"] == experiment.dataset_id
    assert after["default_spec"]["supervised"]["training"]["epochs"] == 7
    assert after["default_spec"]["supervised"]["adapter"]["base_model"] == small_spec().supervised.adapter.base_model


async def test_events_tell_what_happened(real, plane):
    run = await plane.new_run()
    await plane.runs.CancelRun(run_pb2.CancelRunRequest(run_id=run.run_id))

    result = await real("run", "events", run.run_id, "-o", "jsonl")

    assert [event["to_state"] for event in result.json_lines] == ["RUN_STATE_QUEUED", "RUN_STATE_CANCELLED"]


async def test_the_server_tells_its_version(real):
    result = await real("version")

    assert "tunesmith=" in result.out
    assert "schema_version=test" in result.out
