"""Every recipe of docs/how-to/use-grpcurl.md, run as it stands, in order, by a client that is not ours (`buf curl`)."""

from __future__ import annotations

import json
import os
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.clients.conftest import Installation
from tests.rules.sources import ROOT

PAGE = ROOT / "docs" / "how-to" / "use-grpcurl.md"
RECIPE = re.compile(r"```bash\n(?P<script>.*?)```(?P<after>(?:\n*Keep `[^\n]+)*)", re.DOTALL)
KEEP = re.compile(r"Keep `([\w.]+)` as `(\w+)`")
ASSIGNED = re.compile(r"^(\w+)=\$\(", re.MULTILINE)


def documents(text: str) -> list[Any]:
    """The JSON documents in an output, one after the other."""
    decoder, found, at = json.JSONDecoder(), [], 0
    while (start := text.find("{", at)) >= 0:
        document, at = decoder.raw_decode(text, start)
        found.append(document)
    return found


def kept(document: Any, path: str) -> str:
    """The value that a recipe keeps, as it would be pasted into the next one."""
    for key in path.split("."):
        document = document[int(key)] if key.isdigit() else document[key]
    return document if isinstance(document, str) else json.dumps(document)


@pytest.mark.timeout(280)
def test_every_recipe_does_what_it_says(
    installation: Installation, buf: str, clip: Path, other_clip: Path, words: Path
):
    environment = {
        **os.environ,
        "PATH": f"{ROOT / 'tests' / 'clients'}:{os.environ['PATH']}",
        "BUF": buf,
        "CONTROL_PLANE": installation.control_plane,
        "NODE": installation.node,
        "CLIP": str(clip),
        "OTHER_CLIP": str(other_clip),
        "TEXT": str(words),
        "BASE_MODEL": "tiny",
    }
    recipes = [match for match in RECIPE.finditer(PAGE.read_text()) if "grpcurl" in match["script"]]
    answers: dict[str, list[list[Any]]] = {}

    for recipe in recipes:
        script = recipe["script"]
        # what a recipe assigns is there for the next ones, as in one terminal
        told = "".join(f'\necho "{name}=${name}" >&2' for name in ASSIGNED.findall(script))
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", script + told],
            env=environment,
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert done.returncode == 0, f"{script}\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}\n{log_end(installation)}"
        environment |= dict(re.findall(r"^([A-Z_]+)=(.+)$", done.stderr, re.MULTILINE))
        found = documents(done.stdout)
        environment |= {name: kept(found[0], path) for path, name in KEEP.findall(recipe["after"])}
        method = re.findall(r"(\w+)(?: <<EOF|$)", script, re.MULTILINE)[0]
        answers.setdefault(method, []).append(found)

    assert len(recipes) > 50
    expect_a_trained_run(answers)
    expect_a_language_model(answers)
    assert answers["ListComparisons"][0][0]["comparisons"][0]["clips"][1]["durationS"] == 2


def log_end(installation: Installation) -> str:
    """The last lines that the installation wrote."""
    return installation.log.read_text()[-3000:]


def expect_a_trained_run(answers: dict[str, list[list[Any]]]) -> None:
    """What only a real training can have answered."""
    series = {one["name"]: one for one in answers["QueryMetrics"][0][0]["series"]}
    assert len(series["loss"]["steps"]) == 6, "two epochs over three clips that pass the threshold"
    assert series["grad_norm"]["values"][0] > 0
    assert answers["GetRunReport"][0][0]["report"]["finalLoss"] > 0
    assert {preview.get("step", "0") for preview in answers["ListPreviews"][0][0]["previews"]} >= {"0", "6"}
    assert any(chunk["file"]["path"] == "adapter_model.safetensors" for chunk in answers["DownloadAdapter"][0])
    evaluated = [answer[0]["evaluation"] for answer in answers["CreateAdapterEvaluation"]]
    assert answers["ListAdapterEvaluations"][0][0]["evaluations"] == evaluated
    assert "succeeded" in answers["StreamJobEvents"][0][-1]["events"]["events"][-1]["finished"]


def expect_a_language_model(answers: dict[str, list[list[Any]]]) -> None:
    """The same of a language model: its loss came row by row, it wrote, and its files can be read from any byte."""
    watched = [batch for frame in answers["WatchMetrics"][1] for batch in frame.get("rows", {}).get("batches", [])]
    assert sum(len(batch["steps"]) for batch in watched if "loss" in batch["names"]) > 2
    previews = answers["ListPreviews"][1][0]["previews"]
    assert previews and all(preview["text"].startswith("The") and "file" not in preview for preview in previews)
    (model,) = answers["ListModels"][0][0]["models"]
    assert (model["name"], model["version"], model["trainingConfig"]["runId"]) == ("small-words", 1, model["runId"])
    assert answers["UpdateModel"][0][0]["model"]["labels"] == {"stage": "candidate"}
    assert answers["GetModelReport"][0][0]["report"]["bestLoss"] == model["bestLoss"] > 0
    chunks = answers["DownloadModel"][0]
    assert (chunks[0]["file"]["path"], chunks[0]["offset"]) == ("best_model.pt", "1024")
    told = {file["path"] for file in model["files"] if file["path"] >= "best_model.pt"}
    assert {chunk["file"]["path"] for chunk in chunks} == told
