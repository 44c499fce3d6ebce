from __future__ import annotations

import pytest

from tests.cli.plane_state import RUN, id_of
from tunesmith.v1 import experiment_pb2, job_spec_pb2, run_pb2

EXPERIMENT = id_of("exp", 1)


@pytest.fixture
def submitted(fake):
    """The requests that reached the server."""
    fake.state.experiments.append(experiment_pb2.Experiment(experiment_id=EXPERIMENT, name="piano"))
    return fake.state.requests


def write(tmp_path, text):
    path = tmp_path / "run.yaml"
    path.write_text(text)
    return str(path)


def test_a_file_becomes_a_request(cli, submitted, tmp_path):
    file = write(tmp_path, "experiment: piano\ndisplay_name: first\nmin_rating: 4\nlabels: {by: me}\n"
                           "supervised: {training: {epochs: 3, learning_rate: 2e-4}}\n")  # fmt: skip

    result = cli("run", "submit", file, "-d")

    (request,) = submitted
    assert result.out == f"run_id={RUN} state=QUEUED\n"
    assert f"next: tunesmith run watch {RUN}" in result.err
    assert (request.experiment_id, request.display_name, request.min_rating) == (EXPERIMENT, "first", 4.0)
    assert dict(request.labels) == {"by": "me"}
    assert request.spec.supervised.training.epochs == 3
    assert request.spec.supervised.training.learning_rate == 2e-4
    assert not request.spec.supervised.training.HasField("batch_size")
    assert len(request.request_id) >= 8


def test_flags_and_assignments_stand_above_the_file(cli, submitted, tmp_path):
    file = write(tmp_path, "experiment: piano\nsupervised: {training: {epochs: 3, batch_size: 8}}\n")

    flags = "--epochs 5 --precision bf16 --preview-prompts a --preview-prompts b --no-gradient-checkpointing"
    assignments = "--set training.batch_size=2 --set lora_r=4"
    cli("run", "submit", file, "-d", *flags.split(), *assignments.split())

    spec = submitted[0].spec.supervised
    assert (spec.training.epochs, spec.training.batch_size, spec.adapter.lora_r) == (5, 2, 4)
    assert spec.training.precision == job_spec_pb2.PRECISION_BF16
    assert list(spec.previews.preview_prompts) == ["a", "b"]
    assert spec.training.HasField("gradient_checkpointing")


@pytest.mark.parametrize(
    ("text", "path", "suggestion"),
    [
        ("supervised: {training: {epoch: 3}}", "supervised.training.epoch", "did you mean epochs?"),
        ("supervised: {learning_rate: 0.1}", "supervised.learning_rate", "belongs under training"),
        ("experimnt: piano", "experimnt", "did you mean experiment?"),
        ("display-name: x", "display-name", "did you mean display_name?"),
        ("supervisd: {}", "supervisd", "did you mean supervised?"),
    ],
)
def test_an_unknown_key_is_refused_with_a_suggestion(cli, submitted, tmp_path, text, path, suggestion):
    result = cli("run", "submit", write(tmp_path, text), "--experiment", "piano")

    assert result.code == 2
    assert f"{path}: " in result.err
    assert suggestion in result.err
    assert submitted == []


@pytest.mark.parametrize("assignment", ["training.learning_rte=1", "learning_rte=1", "training.epochs=many", "epochs"])
def test_a_wrong_assignment_is_refused(cli, submitted, assignment):
    result = cli("run", "submit", "--experiment", "piano", "--set", assignment)

    assert result.code == 2
    assert submitted == []


def test_a_dry_run_stores_nothing_and_shows_the_run(cli, fake, submitted):
    result = cli("run", "submit", "--experiment", "piano", "--epochs", "2", "--dry-run")

    assert submitted[0].validate_only
    assert "spec.supervised.training.epochs=2" in result.out
    assert fake.state.runs == {}


def test_without_detach_the_run_is_watched_to_its_end(cli, fake, submitted):
    fake.add_run("FAILED", earlier=["RUNNING"], failure=run_pb2.RunFailure(reason="DATA_INVALID", message="no"))

    result = cli("run", "submit", "--experiment", "piano", "--epochs", "2")

    assert result.code == 7
    assert "state=RUNNING" in result.out
    assert "error[DATA_INVALID]: no" in result.err


def test_an_unknown_experiment_is_exit_code_3_and_says_where_to_look(cli, submitted):
    result = cli("run", "submit", "--experiment", "drums", "-d")

    assert result.code == 3
    assert "tunesmith experiment list" in result.err


def test_a_wrong_setting_of_a_training_in_the_foreground_is_told_before_anything_is_loaded(cli, tmp_path):
    data = tmp_path / "rated.jsonl"
    data.write_text("")

    result = cli("train", "supervised", "--dataset", str(data), "--output", str(tmp_path / "out"), "--epochs", "0")

    assert result.code == 2
    assert "spec.supervised.training.epochs" in result.err
    assert "spec.supervised.adapter.base_model: missing" in result.err
