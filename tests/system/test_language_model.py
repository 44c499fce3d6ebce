"""A language model from text files to sampling, through the programs that a user starts, and past a kill."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.support.installation import Installation, Ledger, wait_for
from tests.tinylm.pipelines import SETTINGS
from trainer_node.engines.tinylm.synthetic import write_synthetic
from tunesmith import spec as specs
from tunesmith.client.transfer import digest_of, pull_model, upload_missing
from tunesmith.v1 import experiment_pb2, job_spec_pb2, model_pb2, run_pb2

OF_THE_CLOCK = {"tokens_per_s", "epoch_s"}


def language_model(
    installation: Installation, texts: dict[str, Path], **changes: dict[str, Any]
) -> job_spec_pb2.JobSpec:
    """The spec of a model of some 10 ms a step on these files, by name, which are uploaded."""
    digests = {name: digest_of(path) for name, path in texts.items()}
    upload_missing(installation.client, {digests[name]: path for name, path in texts.items()})
    files = [{"name": name, "digest": digest} for name, digest in digests.items()]
    groups = {group: {**SETTINGS.get(group, {}), **changes.get(group, {})} for group in {**SETTINGS, **changes}}
    return specs.parse({"tiny_lm": {**groups, "corpus": {"corpus_files": files}}}, job_spec_pb2.JobSpec())


def experiment_without_clips(installation: Installation) -> str:
    """An experiment that has no data set; its id."""
    request = experiment_pb2.CreateExperimentRequest(experiment=experiment_pb2.Experiment(name="tales"))
    return installation.client.experiments.CreateExperiment(request).experiment.experiment_id


def previews(installation: Installation, run_id: str) -> list[run_pb2.Preview]:
    """What a run has written so far."""
    return list(installation.client.runs.ListPreviews(run_pb2.ListPreviewsRequest(run_id=run_id)).previews)


def model_of(installation: Installation, run: run_pb2.Run) -> model_pb2.Model:
    """What a run has left."""
    return installation.client.models.GetModel(model_pb2.GetModelRequest(model_id=run.model_id)).model


def learned(installation: Installation, run_id: str) -> Ledger:
    """A run's metrics, those of the clock aside."""
    return {key: value for key, value in installation.metrics(run_id).items() if key[0] not in OF_THE_CLOCK}


async def test_a_killed_training_goes_on_at_another_node_to_the_same_bits_and_its_model_speaks(
    installation: Installation, tmp_path: Path
) -> None:
    installation.start_control_plane("--lease-s", "3", "--node-silence-s", "6")
    installation.start_node("node-a")
    english, spanish = write_synthetic(tmp_path / "texts", size_bytes=40_000)
    spec = language_model(
        installation,
        {"en.txt": english, "es/cuento.txt": spanish},
        training={"epochs": 8, "log_every_steps": 1},
        checkpoints={"checkpoint_every_steps": 20},
    )
    experiment_id = experiment_without_clips(installation)
    whole = installation.ended(installation.submit(experiment_id, spec))
    assert whole.state == run_pb2.RUN_STATE_SUCCEEDED, whole
    step = random.SystemRandom().randint(20, whole.total_steps // 3)

    broken = installation.submit(experiment_id, spec)
    installation.run_at_step(broken, step)
    wait_for(lambda: installation.checkpoints(broken) and previews(installation, broken), within_s=60)
    live = learned(installation, broken)
    assert not installation.run(broken).HasField("end_time"), "rows and texts are there while it trains"
    installation.training_process("node-a").kill()
    failure = installation.ended(broken, within_s=20).failure
    installation.kill("node-a")
    installation.start_node("node-b")
    resumed = installation.client.runs.ResumeRun(run_pb2.ResumeRunRequest(run_id=broken)).run
    run = installation.ended(resumed.run_id)

    assert (failure.reason, failure.exit_code) == ("PROCESS_DIED", -signal.SIGKILL)
    assert run.state == run_pb2.RUN_STATE_SUCCEEDED, run
    assert 0 < run.resumed_from_step < run.total_steps, f"killed at step {step} or soon after"
    expected, after = learned(installation, whole.run_id), learned(installation, run.run_id)
    assert {"loss", "learning_rate", "grad_norm", "eval_loss"} <= {name for name, _ in live}
    assert {key: expected[key] for key in live} == live
    assert after == {key: value for key, value in expected.items() if key[1] > run.resumed_from_step}
    assert run.final_loss == whole.final_loss
    _check_previews(installation, whole, run)
    _check_models(installation, whole, run, tmp_path / "model")


def _check_previews(installation: Installation, whole: run_pb2.Run, run: run_pb2.Run) -> None:
    """The same text for the same step, whoever trained it."""
    one, other = (
        {(each.step, each.prompt_index): each for each in previews(installation, run_id)}
        for run_id in (whole.run_id, run.run_id)
    )
    assert {place for _, place in one} == {0, 1} and max(step for step, _ in one) == whole.total_steps
    assert all(each.text.startswith(each.prompt) and not each.HasField("file") for each in one.values())
    assert other and {key: one[key].text for key in other} == {key: each.text for key, each in other.items()}


def _check_models(installation: Installation, whole: run_pb2.Run, run: run_pb2.Run, folder: Path) -> None:
    """Both are registered, and of the same bytes; the one that was interrupted speaks from where it was downloaded."""
    first, second = (model_of(installation, each) for each in (whole, run))
    assert (first.name, first.version, second.version) == ("tales", 1, 2)
    digests = [{file.path: file.digest for file in model.files} for model in (first, second)]
    for path in ("best_model.pt", "final_model.pt", "tokenizer/tokenizer.model"):
        assert digests[0][path] == digests[1][path]
    assert second.final_loss == run.final_loss and second.best_loss < 4
    assert second.training_config.spec == run.spec and second.training_config.device == "cpu fp32"
    pull_model(installation.client, second, folder)
    said = subprocess.run(
        [sys.executable, "-m", "services.cli.main", "lm", "sample", str(folder), "The", "--max-tokens", "20"],
        capture_output=True, text=True, check=True, env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    ).stdout  # fmt: skip
    assert said.startswith("The") and len(said) > len("The") + 10


async def test_a_corpus_that_cannot_be_read_fails_the_run_by_the_name_that_its_owner_gave_it(
    installation: Installation, tmp_path: Path
) -> None:
    installation.start_control_plane()
    installation.start_node()
    texts = {"en.txt": tmp_path / "picture.txt", "es.txt": tmp_path / "empty.txt"}
    texts["en.txt"].write_bytes(bytes(range(256)) * 400)
    texts["es.txt"].write_bytes(b"\n")

    spec = language_model(installation, texts)
    run = installation.ended(installation.submit(experiment_without_clips(installation), spec))

    assert run.state == run_pb2.RUN_STATE_FAILED
    assert (run.failure.reason, run.failure.exit_code) == ("DATA_INVALID", 1)
    assert run.failure.message.startswith("en.txt ") and "jobs" not in run.failure.message
    assert not installation.client.models.ListModels(model_pb2.ListModelsRequest()).models
