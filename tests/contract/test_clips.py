"""Clips on the wire: who plays them, where they are found, and what a run of them has not."""

from __future__ import annotations

import pytest

from tests.contract.clips import new_run, play, player, playing
from tests.support.control_plane import Plane
from tests.support.edge import refusal
from tunesmith.v1 import run_pb2


async def get(plane: Plane, run_id: str) -> run_pb2.Run:
    return (await plane.runs.GetRun(run_pb2.GetRunRequest(run_id=run_id))).run


async def test_a_run_of_clips_succeeds_with_nothing_registered(plane: Plane):
    run = await new_run(plane)

    await play(plane, run)

    ended = await get(plane, run.run_id)
    assert ended.state == run_pb2.RUN_STATE_SUCCEEDED
    assert (ended.adapter_id, ended.model_id, ended.dataset_version_id) == ("", "", "")
    assert not ended.HasField("final_loss")


async def test_what_is_left_open_is_resolved(plane: Plane):
    generation = (await new_run(plane)).spec.generate.generation

    assert (generation.clips_per_prompt, generation.seed, generation.clip_s) == (1, 0, 5.0)
    assert (generation.guidance_scale, generation.temperature, generation.top_k) == (0, 0, 0)
    assert generation.HasField("guidance_scale")


@pytest.mark.parametrize("page_size", [1, 2, 5, 6, 7])
async def test_every_clip_is_listed_once_by_prompt_and_seed_over_pages(plane: Plane, page_size: int):
    run = await new_run(plane, spec=playing("a", "b", clips=3))
    await play(plane, run)

    found, token = [], ""
    while True:
        request = run_pb2.ListPreviewsRequest(run_id=run.run_id, page_size=page_size, page_token=token)
        page = await plane.runs.ListPreviews(request)
        found += [(one.prompt_index, one.prompt, one.seed) for one in page.previews]
        if not (token := page.next_page_token):
            break

    assert found == [(0, "a", 0), (0, "a", 1), (0, "a", 2), (1, "b", 0), (1, "b", 1), (1, "b", 2)]


async def test_it_has_no_report_and_cannot_be_resumed_and_each_refusal_names_the_way(plane: Plane):
    run = await new_run(plane)
    await play(plane, run)

    report = await refusal(plane.runs.GetRunReport(run_pb2.GetRunReportRequest(run_id=run.run_id)))
    resumed = await refusal(plane.runs.ResumeRun(run_pb2.ResumeRunRequest(run_id=run.run_id)))

    assert report.reason == "REPORT_NOT_READY" and "list them with ListPreviews" in report.text
    assert resumed.reason == "RUN_NOT_RESUMABLE" and "create it again" in resumed.text


async def test_data_is_not_taken(plane: Plane):
    await player(plane)
    trained = await plane.new_run()
    request = run_pb2.CreateRunRequest(
        experiment_id=trained.experiment_id,
        spec=playing("a song"),
        dataset_version_id=trained.dataset_version_id,
    )

    refused = await refusal(plane.runs.CreateRun(request))

    assert refused.reason == "INVALID_FIELD" and list(refused.fields) == ["dataset_version_id"]
