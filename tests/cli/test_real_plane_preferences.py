"""Training from preferences by the command line, against the control plane itself: real sockets, real Postgres."""

from __future__ import annotations

import asyncio
import json
import os
import wave

import pytest
import structlog.testing

from tests.support.control_plane import fresh


@pytest.fixture
def real(cli, plane):
    """Runs a command line against the real control plane, beside the loop that serves it."""

    async def run(*args: str):
        with structlog.testing.capture_logs():  # the server's, which would print to the same stdout here
            return await asyncio.to_thread(cli, "--server", plane.address, *args)

    return run


@pytest.fixture
def compared(tmp_path):
    """A data set file of three rated clips of one prompt and a comparison of two of another."""
    rows: list[dict[str, object]] = []
    for number, rating in enumerate((2, 4, 4.5)):
        with wave.open(str(tmp_path / f"{number}.wav"), "wb") as clip:
            clip.setparams((1, 2, 8_000, 0, "NONE", ""))
            clip.writeframes(os.urandom(1_600))
        rows.append({"audio": f"{number}.wav", "prompt": "a", "rating": rating})
    rows.append({"prompt": "b", "chosen": "0.wav", "rejected": "1.wav"})
    file = tmp_path / "clips.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return file


async def test_from_compared_clips_to_a_queued_run(real, compared):
    name = fresh("mine")

    imported = await real("dataset", "import", str(compared), "--to", name)
    listed = await real("dataset", "comparisons", name, "-o", "jsonl")
    planned = await real("dataset", "version", "create", name, "--pairs", "--dry-run")
    await real("dataset", "version", "create", name, "--ranked-lists")
    await real("experiment", "create", name, "--dataset", name, "--training-type", "preference", "--set", "beta=0.1")
    submit = ("run", "submit", "--experiment", name, "--base-model", "tiny", "-o", "json")
    rehearsed = await real(*submit, "--dry-run")
    submitted = await real(*submit, "-d")
    again = await real(*submit, "-d")

    pairs = "3 pairs from 2 prompts, 1 tie skipped"
    assert "added=3 duplicates=0 added_comparisons=1" in imported.out
    assert [[clip["rank"] for clip in one["clips"]] for one in listed.json_lines] == [[1, 2]]
    assert f"would freeze {pairs}" in planned.err
    assert rehearsed.code == submitted.code == again.code == 0
    run = submitted.json["run"]
    assert (run["spec"]["dpo"]["beta"], run["spec"]["dpo"]["training"]["learning_rate"]) == (0.1, 5e-05)
    assert again.json["run"]["dataset_version_id"] == run["dataset_version_id"]
    version = await real("dataset", "version", "get", f"{name}@2")
    assert (f"holds {pairs}" in version.err, run["dataset_version_id"] in version.out) == (True, True)


async def test_what_a_run_is_trained_on_is_told_before_it_is_queued(real, compared):
    name = fresh("mine")
    await real("dataset", "import", str(compared), "--to", name)
    await real("experiment", "create", name, "--dataset", name, "--training-type", "ranking")
    submit = ("run", "submit", "--experiment", name, "--base-model", "tiny", "-d")

    first, second = await real(*submit), await real(*submit)

    lists = "2 ranked lists from 2 prompts, 1 tie skipped"
    assert f"trains on {name}: {lists}, frozen now\n" in first.err
    assert f"trains on {name}@1: {lists} (dsv_" in second.err


async def test_a_version_of_another_form_is_refused_with_what_to_freeze(real, compared):
    name = fresh("mine")
    await real("dataset", "import", str(compared), "--to", name)
    await real("dataset", "version", "create", name)
    await real("experiment", "create", name, "--dataset", name, "--training-type", "preference")

    result = await real(
        "run", "submit", "--experiment", name, "--base-model", "tiny", "-d", "--dataset-version", f"{name}@1"
    )

    assert (result.code, "error[DATASET_VERSION_UNSUITABLE]" in result.err) == (4, True)


async def test_an_experiments_kind_stays_until_another_is_named(real, plane):
    name = (await plane.new_experiment()).name

    await real("experiment", "update", name, "--training-type", "preference", "--set", "beta=0.1")
    kept = await real("experiment", "update", name, "--set", "epochs=7", "-o", "json")
    other = await real("experiment", "update", name, "--training-type", "ranking", "-o", "json")

    spec = kept.json["experiment"]["default_spec"]
    assert (list(spec), spec["dpo"]["beta"], spec["dpo"]["training"]["epochs"]) == (["dpo"], 0.1, 7)
    assert list(other.json["experiment"]["default_spec"]) == ["ranking"]


async def test_a_run_starts_from_an_adapter_by_its_name_and_takes_over_its_shape(real, plane):
    first = await plane.new_run()
    adapter_id = await plane.finish(first.run_id, {"adapter_config.json": b"{}"})
    name = (await real("adapter", "get", adapter_id, "-o", "json")).json["adapter"]["name"]
    submit = ("run", "submit", "--experiment", name, "--start-adapter", f"{name}@1", "-d", "-o", "json")

    started = await real(*submit)
    unknown = await real("run", "submit", "--experiment", name, "--start-adapter", f"{name}@9", "-d")

    settings = started.json["run"]["spec"]["supervised"]["adapter"]
    assert (settings["start_adapter_id"], settings["base_model"]) == (adapter_id, "tiny")
    assert (unknown.code, "error[ADAPTER_NOT_FOUND]" in unknown.err) == (3, True)
