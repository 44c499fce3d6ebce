"""Language models on the command line against the control plane itself: real sockets, real Postgres."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
import structlog.testing

from tests.cli.conftest import Result, Run
from tests.contract import language_models
from tests.support.control_plane import Plane, fresh

Real = Callable[..., Awaitable[Result]]


@pytest.fixture
def real(cli: Run, plane: Plane) -> Real:
    """Runs a command line against the real control plane, beside the loop that serves it."""

    async def run(*args: str) -> Result:
        with structlog.testing.capture_logs():  # the server's, which would print to the same stdout here
            return await asyncio.to_thread(cli, "--server", plane.address, *args)

    return run


@pytest.fixture
def lm_yaml(tmp_path: Path) -> Path:
    """Settings beside text in two languages that nobody else has."""
    (tmp_path / "texts" / "es").mkdir(parents=True)
    (tmp_path / "texts" / "en.txt").write_text(fresh("A tale.\n"))
    (tmp_path / "texts" / "es" / "sueño.txt").write_text(fresh("Un cuento.\n"))
    file = tmp_path / "lm.yaml"
    file.write_text("training_type: tiny_lm\ncorpus_path: texts\nepochs: 3\n")
    return file


async def test_from_text_to_a_model_that_is_downloaded(real: Real, plane: Plane, lm_yaml: Path, tmp_path: Path) -> None:
    name = fresh("tales")
    await language_models.learner(plane)
    await real("experiment", "create", name)

    rehearsed = await real("run", "submit", str(lm_yaml), "--experiment", name, "--dry-run")
    submitted = await real("run", "submit", str(lm_yaml), "--experiment", name, "-d", "-o", "json")
    run_id = submitted.json["run"]["run_id"]
    model_id = await language_models.finish(
        plane, run_id, {"best_model.pt": b"weights", "tokenizer/t.model": b"pieces"}
    )
    watched = await real("run", "watch", run_id)
    listed = await real("model", "list", "--experiment", name)
    labelled = await real("model", "label", name, "for=demo")
    downloaded = await real("model", "download", f"{name}@1", str(tmp_path / "out"))

    assert rehearsed.code == 0
    assert "spec.tiny_lm.corpus.corpus_files[1].name=es/sue_o.txt" in rehearsed.out.splitlines()
    assert "learns from 2 text files (en 1, es 1), " in rehearsed.err
    assert submitted.json["run"]["spec"]["tiny_lm"]["training"]["epochs"] == 3
    assert watched.code == 0 and f"model={name}@1" in watched.out
    assert f"tunesmith --server {plane.address} model download {name}@1" in watched.err
    assert listed.out.startswith(f"model_id={model_id} name={name}@1 ")
    assert "labels.for=demo" in labelled.out
    assert downloaded.code == 0
    assert (tmp_path / "out" / "tokenizer" / "t.model").read_bytes() == b"pieces"
    assert (await real("model", "report", model_id)).out == "# Report\n"


async def test_an_experiment_keeps_the_text_that_its_runs_learn_from(real: Real, plane: Plane, lm_yaml: Path) -> None:
    name = fresh("tales")
    await language_models.learner(plane)

    created = await real("experiment", "create", name, "--settings", str(lm_yaml))
    submitted = await real("run", "submit", "--experiment", name, "--epochs", "5", "-d")
    changed = await real("experiment", "update", name, "--settings", str(lm_yaml), "--set", "epochs=7")

    assert f"next: tunesmith --server {plane.address} run submit --experiment {name}\n" in created.err
    assert "default_spec.tiny_lm.corpus.corpus_files[0].name=en.txt" in created.out.splitlines()
    assert submitted.code == 0
    assert "learns from the 2 text files of its experiment" in submitted.err
    assert "default_spec.tiny_lm.training.epochs=7" in changed.out.splitlines()
    assert "default_spec.tiny_lm.corpus.corpus_files[1].name=es/sue_o.txt" in changed.out.splitlines()


async def test_an_experiment_without_text_says_where_to_give_it(real: Real) -> None:
    name = fresh("tales")

    created = await real("experiment", "create", name, "--training-type", "tiny_lm")

    assert f"run submit --experiment {name} --corpus-path TEXTS\n" in created.err
