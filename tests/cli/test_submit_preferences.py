"""Submitting runs that are trained from preferences: kinds, their settings, their data, the adapter to start from."""

from __future__ import annotations

import pytest

from tests.cli.plane_state import id_of
from tunesmith.v1 import dataset_pb2, experiment_pb2, job_spec_pb2, run_pb2

EXPERIMENT, DATASET = id_of("exp", 1), id_of("dst", 1)
ADAPTER = {"base_model": "tiny"}


def sample(prompt, clip, rating):
    return dataset_pb2.Sample(prompt=prompt, audio_digest=clip * 64, rating=rating)


@pytest.fixture
def experiment(fake):
    """An experiment of supervised runs, on a data set from which two pairs of one prompt follow."""
    made = experiment_pb2.Experiment(experiment_id=EXPERIMENT, name="piano", dataset_id=DATASET)
    made.default_spec.supervised.adapter.base_model = "tiny"
    fake.state.experiments.append(made)
    fake.state.datasets.append(dataset_pb2.Dataset(dataset_id=DATASET, name="songs"))
    fake.state.samples[DATASET] = [sample("a", "1", 5), sample("a", "2", 3), sample("a", "3", 3), sample("b", "4", 1)]
    return made


@pytest.fixture
def queued(fake, experiment):
    """The requests that queued a run."""

    def read():
        return [
            one for one in fake.state.requests if isinstance(one, run_pb2.CreateRunRequest) and not one.validate_only
        ]

    return read


def freeze(client, **derive):
    request = dataset_pb2.CreateDatasetVersionRequest(dataset_id=DATASET, **derive)
    return client.datasets.CreateDatasetVersion(request).dataset_version.dataset_version_id


def submit(cli, *args):
    return cli("run", "submit", "--experiment", "piano", "-d", *args)


def test_flags_are_settings_of_the_training_type_that_was_chosen(cli, queued):
    result = submit(cli, "--training-type", "preference", "--loss", "ipo", "--beta", "3", "--epochs", "2")

    (request,) = queued()
    assert result.code == 0
    assert (request.spec.dpo.loss, request.spec.dpo.beta) == (job_spec_pb2.DPO_LOSS_IPO, 3)
    assert request.spec.dpo.training.epochs == 2


def test_flags_are_settings_of_the_experiments_kind_where_nobody_names_one(cli, experiment, queued):
    experiment.default_spec.ranking.adapter.base_model = "tiny"

    submit(cli, "--margin", "0.5")

    assert [request.spec.ranking.margin for request in queued()] == [0.5]


@pytest.mark.parametrize(
    ("args", "told"),
    [
        (("--beta", "1"), "supervised.beta: unknown here; it belongs under dpo"),
        (("--training-type", "ranking", "--loss", "ipo"), "'ipo' is not one of margin, plackett_luce"),
        (("--training-type", "preference", "--min-rating", "4"), "min_rating does not go with dpo"),
    ],
)
def test_a_setting_of_another_kind_is_refused(cli, queued, args, told):
    result = submit(cli, *args)

    assert (result.code, queued()) == (2, [])
    assert told in result.err


def test_a_file_and_a_flag_that_name_different_kinds_are_refused(cli, queued, tmp_path):
    file = tmp_path / "run.yaml"
    file.write_text("{training_type: ranking, margin: 0.2}")

    agreed, differing = [submit(cli, str(file), "--training-type", kind) for kind in ("ranking", "preference")]

    assert agreed.code == 0
    assert differing.code == 2
    assert "--training-type preference is for dpo, and the file for ranking" in differing.err
    assert [request.spec.ranking.margin for request in queued()] == [0.2]


def test_what_a_run_is_trained_on_is_told_before_it_is_queued(cli, fake, client, queued):
    def told(request, _):
        order.append("queued" if not request.validate_only else "rehearsed")

    order: list[str] = []
    fake.state.before["CreateRun"] = told
    version = freeze(client, pairs={})

    result = submit(cli, "--training-type", "preference")

    assert (
        f"trains on songs@1: 2 pairs from 1 prompt, 1 tie skipped, 1 prompt without an order ({version})" in result.err
    )
    assert order == ["rehearsed", "queued"]
    assert [request.dataset_version_id for request in queued()] == [version]


def test_what_the_server_will_freeze_is_told_where_nothing_is_frozen_yet(cli, fake, queued):
    result = submit(cli, "--training-type", "ranking")

    assert (
        "trains on songs: 1 ranked list from 1 prompt, 1 tie skipped, 1 prompt without an order, frozen now"
        in result.err
    )
    assert len(queued()) == 1
    assert [version.derivation.WhichOneof("settings") for version in fake.state.versions] == ["ranked_lists"]


def test_data_from_which_nothing_follows_is_refused_before_anything_is_queued(cli, fake, queued):
    fake.state.samples[DATASET].clear()

    result = submit(cli, "--training-type", "preference")

    assert (result.code, queued()) == (4, [])
    assert "error[DATASET_EMPTY]" in result.err


def test_another_data_set_gives_its_newest_version_of_what_the_kind_takes_first(cli, client, experiment, queued):
    experiment.dataset_id = ""
    lists = freeze(client, ranked_lists={})
    pairs = freeze(client, pairs={})
    rated = freeze(client)

    submit(cli, "--dataset", "songs", "--training-type", "ranking")
    submit(cli, "--dataset", "songs", "--training-type", "preference")
    submit(cli, "--dataset", "songs")

    assert [request.dataset_version_id for request in queued()] == [lists, pairs, rated]


def test_another_data_set_without_such_a_version_is_refused_with_the_command_that_freezes_one(
    cli, client, experiment, queued
):
    experiment.dataset_id = ""
    freeze(client)

    result = submit(cli, "--dataset", "songs", "--training-type", "preference")

    assert (result.code, queued()) == (3, [])
    assert "freeze one: tunesmith dataset version create songs --pairs" in result.err


@pytest.mark.parametrize("name", ["drums@2", id_of("adp", 2), "drums"])
def test_the_adapter_to_start_from_may_be_named_by_flag_key_or_setting(cli, fake, queued, tmp_path, name):
    for version in (1, 2):
        fake.add_adapter(version, "drums")
    files = {
        "key.yaml": f"{{training_type: preference, start_adapter: {name}}}",
        "setting.yaml": f"dpo: {{adapter: {{start_adapter_id: {name}}}}}",
    }
    for file, text in files.items():
        (tmp_path / file).write_text(text)

    submit(cli, "--training-type", "preference", "--start-adapter", name)
    for file in files:
        submit(cli, str(tmp_path / file))

    assert [request.spec.dpo.adapter.start_adapter_id for request in queued()] == [id_of("adp", 2)] * 3


def test_an_adapter_to_start_from_that_nobody_has_is_not_found(cli, queued):
    result = submit(cli, "--start-adapter", "drums@7")

    assert (result.code, queued()) == (3, [])
    assert "error[ADAPTER_NOT_FOUND]" in result.err
