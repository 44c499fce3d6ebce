"""Lists: every entry once, newest first, whatever is added meanwhile."""

from __future__ import annotations

import pytest

from tests.support.control_plane import Plane, fresh
from tests.support.edge import refusal
from tunesmith.v1 import dataset_pb2, experiment_pb2, node_pb2, run_pb2


async def test_pages_stay_stable_while_entries_are_added(plane: Plane):
    experiment = await plane.new_experiment()
    made = [(await plane.new_run(experiment.experiment_id)).run_id for _ in range(7)]

    seen, token = [], ""
    while True:
        request = run_pb2.ListRunsRequest(experiment_id=experiment.experiment_id, page_size=2, page_token=token)
        page = await plane.runs.ListRuns(request)
        seen += [run.run_id for run in page.runs]
        await plane.new_run(experiment.experiment_id)  # while somebody reads
        token = page.next_page_token
        if not token:
            break

    assert seen == sorted(made, reverse=True)


async def test_a_huge_page_is_a_page_of_a_thousand(plane: Plane):
    experiment = await plane.new_experiment()
    await plane.new_run(experiment.experiment_id)

    page = await plane.runs.ListRuns(run_pb2.ListRunsRequest(experiment_id=experiment.experiment_id, page_size=5000))

    assert len(page.runs) == 1 and not page.next_page_token


async def test_a_token_of_another_filter_is_refused(plane: Plane):
    experiment = await plane.new_experiment()
    for _ in range(2):
        await plane.new_run(experiment.experiment_id)
    first = run_pb2.ListRunsRequest(experiment_id=experiment.experiment_id, page_size=1)
    token = (await plane.runs.ListRuns(first)).next_page_token

    refused = await refusal(plane.runs.ListRuns(run_pb2.ListRunsRequest(page_token=token)))

    assert token and refused.reason == "INVALID_PAGE_TOKEN" and "start again" in refused.text


async def test_runs_are_found_by_state_and_by_the_beginning_of_their_id(plane: Plane):
    experiment = await plane.new_experiment()
    kept, cancelled = [(await plane.new_run(experiment.experiment_id)).run_id for _ in range(2)]
    await plane.runs.CancelRun(run_pb2.CancelRunRequest(run_id=cancelled))

    async def found(**filters) -> list[str]:
        request = run_pb2.ListRunsRequest(experiment_id=experiment.experiment_id, **filters)
        return [run.run_id for run in (await plane.runs.ListRuns(request)).runs]

    assert await found(states=[run_pb2.RUN_STATE_QUEUED]) == [kept]
    assert await found(states=[run_pb2.RUN_STATE_QUEUED, run_pb2.RUN_STATE_CANCELLED]) == [cancelled, kept]
    assert await found(id_prefix=kept) == [kept]
    assert await found(id_prefix="run_____") == []


async def test_a_state_that_does_not_exist_is_refused(plane: Plane):
    refused = await refusal(plane.runs.ListRuns(run_pb2.ListRunsRequest(states=[99])))

    assert "states[0]" in refused.fields


async def test_entries_are_found_by_their_exact_name(plane: Plane):
    experiment = await plane.new_experiment()
    node = await plane.new_node()
    by_name = experiment_pb2.ListExperimentsRequest(name=experiment.name)

    assert [one.name for one in (await plane.experiments.ListExperiments(by_name)).experiments] == [experiment.name]
    assert (await plane.nodes.ListNodes(node_pb2.ListNodesRequest(name=node.name))).nodes[0].node_id == node.node_id
    assert not (await plane.datasets.ListDatasets(dataset_pb2.ListDatasetsRequest(name=fresh("none")))).datasets


@pytest.mark.parametrize("frozen", [False, True])
async def test_samples_come_in_the_order_they_were_added(plane: Plane, frozen):
    dataset_id = await plane.new_dataset(1, 2, 3, 4, 5)
    source = {"dataset_id": dataset_id}
    if frozen:
        request = dataset_pb2.CreateDatasetVersionRequest(dataset_id=dataset_id)
        version = (await plane.datasets.CreateDatasetVersion(request)).dataset_version
        source = {"dataset_version_id": version.dataset_version_id}

    ratings, token = [], ""
    while not ratings or token:
        page = await plane.datasets.ListSamples(dataset_pb2.ListSamplesRequest(**source, page_size=2, page_token=token))
        ratings += [sample.rating for sample in page.samples]
        token = page.next_page_token

    assert ratings == [1, 2, 3, 4, 5]


async def test_events_of_a_run_come_oldest_first_page_by_page(plane: Plane):
    run = await plane.new_run()
    await plane.runs.CancelRun(run_pb2.CancelRunRequest(run_id=run.run_id))

    first = await plane.runs.ListRunEvents(run_pb2.ListRunEventsRequest(run_id=run.run_id, page_size=1))
    request = run_pb2.ListRunEventsRequest(run_id=run.run_id, page_size=1, page_token=first.next_page_token)
    second = await plane.runs.ListRunEvents(request)

    states = [(event.from_state, event.to_state) for event in [*first.events, *second.events]]
    assert states == [
        (run_pb2.RUN_STATE_UNSPECIFIED, run_pb2.RUN_STATE_QUEUED),
        (run_pb2.RUN_STATE_QUEUED, run_pb2.RUN_STATE_CANCELLED),
    ]
    assert second.events[0].actor == "client" and not second.next_page_token
