from __future__ import annotations

import pytest

from tests.cli.plane_state import RUN, id_of
from tunesmith.client import names
from tunesmith.client.errors import AmbiguousId, ApiError
from tunesmith.v1 import experiment_pb2


def test_a_whole_id_costs_no_call(nobody):
    from tunesmith.client.client import Client

    with Client(nobody) as client:
        assert names.resolve_run(client, RUN) == RUN


def test_a_unique_prefix_is_enough_with_or_without_its_type(fake, client):
    fake.add_run("RUNNING", id_of("run", 10**22))
    fake.add_run("RUNNING", id_of("run", 2 * 10**22))

    assert names.resolve_run(client, "run_01J1") == id_of("run", 10**22)
    assert names.resolve_run(client, "01J2") == id_of("run", 2 * 10**22)


def test_an_ambiguous_prefix_lists_the_candidates(fake, client):
    for number in range(7):
        fake.add_run("RUNNING", id_of("run", number))

    with pytest.raises(AmbiguousId) as caught:
        names.resolve_run(client, "run_01J")

    message = str(caught.value)
    assert message.startswith(f"run_01J fits more than one: {id_of('run', 6)}, ")
    assert message.count("run_01J") == 6
    assert message.endswith(", …; type more of the id")


def test_an_unknown_one_is_not_found_and_says_how_to_list(fake, client):
    for text in ("run_01JZ", "nonsense", "run_"):
        with pytest.raises(ApiError) as caught:
            names.resolve_run(client, text)

        assert caught.value.code == "NOT_FOUND"
        assert "`tunesmith run list`" in caught.value.message


def test_experiments_are_found_by_name_even_one_that_looks_like_an_id(fake, client):
    fake.state.experiments += [
        experiment_pb2.Experiment(experiment_id=id_of("exp", 1), name="piano"),
        experiment_pb2.Experiment(experiment_id=id_of("exp", 2), name="01"),
    ]

    assert names.resolve_experiment(client, "piano") == id_of("exp", 1)
    assert names.resolve_experiment(client, "01J00000000000000000000002") == id_of("exp", 2)


def test_an_adapter_is_found_by_name_and_version_or_the_newest_by_name(fake, client):
    for version in (1, 2, 3):
        fake.add_adapter(version)

    assert names.resolve_adapter(client, "piano") == id_of("adp", 3)
    assert names.resolve_adapter(client, "piano@2") == id_of("adp", 2)
    with pytest.raises(ApiError):
        names.resolve_adapter(client, "piano@9")
    with pytest.raises(ApiError):
        names.resolve_adapter(client, "drums")


def test_an_ambiguous_prefix_is_exit_code_2(cli, fake):
    fake.add_run("RUNNING", id_of("run", 1))
    fake.add_run("RUNNING", id_of("run", 2))

    result = cli("run", "get", "01J")

    assert result.code == 2
    assert "error[AMBIGUOUS_ID]: 01J fits more than one" in result.err


def test_adapters_that_were_trained_from_another_are_listed_by_its_name(cli, fake):
    for version in (1, 2, 3):
        fake.add_adapter(version).start_adapter_id = id_of("adp", 1) if version > 1 else ""

    lines = cli("adapter", "list", "--start-adapter", "piano@1").out.splitlines()

    assert [line.split()[1] for line in lines] == ["name=piano@3", "name=piano@2"]
    assert f"start_adapter_id={id_of('adp', 1)}" in lines[0]
