"""Evaluations as clients rely on them: the real control plane, and the fake of the command line's tests."""

from __future__ import annotations

import grpc
import pytest

from tests.cli.plane_settings import Setting
from tests.contract.clips import playing
from tests.support.edge import refusal
from tunesmith.v1 import adapter_pb2, adapter_pb2_grpc, run_pb2, run_pb2_grpc
from tunesmith.v1.adapter_pb2 import AdapterEvaluation, Estimate, Measure

NOBODY = "Z" * 26
Create = adapter_pb2.CreateAdapterEvaluationRequest
List = adapter_pb2.ListAdapterEvaluationsRequest


@pytest.fixture
def adapters(channel: grpc.aio.Channel) -> adapter_pb2_grpc.AdapterServiceStub:
    return adapter_pb2_grpc.AdapterServiceStub(channel)


def measure(**fields: object) -> Measure:
    estimate = Estimate(value=0.25, low=0.125, high=0.5)
    given = {"name": "wished share", "is_share": True, "clip_count": 96, "before": estimate, "after": estimate}
    return Measure(**{**given, "difference": Estimate(low=-0.1, high=0.1), **fields})  # type: ignore[arg-type]  # as the fields are


def evaluation(adapter_id: str, **fields: object) -> AdapterEvaluation:
    given = {"scorer": "tunes", "wish": {"mode": "major"}, "measures": [measure()]}
    return AdapterEvaluation(adapter_id=adapter_id, **{**given, **fields})  # type: ignore[arg-type]  # as the fields are


@pytest.fixture
def playing_run(setting: Setting, channel: grpc.aio.Channel):
    """Queues a run that plays this prompt with an adapter; returns its id."""

    async def call(adapter_id: str, prompt: str) -> str:
        await setting.player()
        spec = playing(prompt, base_model="", adapter_id=adapter_id)
        request = run_pb2.CreateRunRequest(experiment_id=await setting.experiment(), spec=spec)
        return (await run_pb2_grpc.RunServiceStub(channel).CreateRun(request)).run.run_id

    return call


async def test_an_evaluation_comes_back_as_it_was_given_by_an_id_and_at_a_time(setting: Setting, adapters, playing_run):
    adapter_id = await setting.adapter()
    runs = {
        "before_run_id": await playing_run(await setting.adapter(), "a song"),
        "after_run_id": await playing_run(adapter_id, "a song"),
    }
    given = evaluation(adapter_id, **runs, measures=[measure(), measure(name="in scale")])
    given.evaluation_id = f"evl_{NOBODY}"

    made = (await adapters.CreateAdapterEvaluation(Create(evaluation=given))).evaluation

    assert made.evaluation_id.startswith("evl_") and made.evaluation_id != given.evaluation_id
    assert made.create_time.seconds > 1_700_000_000
    made.ClearField("create_time")
    given.evaluation_id = made.evaluation_id
    assert made == given


async def test_evaluations_are_listed_newest_first_page_by_page_of_one_adapter_or_of_all(setting: Setting, adapters):
    adapter_id = await setting.adapter()
    requests = [Create(evaluation=evaluation(adapter_id)) for _ in range(3)]
    made = [(await adapters.CreateAdapterEvaluation(request)).evaluation.evaluation_id for request in requests]

    async def page(**fields: object) -> adapter_pb2.ListAdapterEvaluationsResponse:
        return await adapters.ListAdapterEvaluations(List(**fields))

    whole, first = await page(adapter_id=adapter_id), await page(adapter_id=adapter_id, page_size=2)
    second = await page(adapter_id=adapter_id, page_size=2, page_token=first.next_page_token)
    every = {one.evaluation_id for one in (await page(page_size=1_000)).evaluations}

    newest_first = sorted(made, reverse=True)
    assert [one.evaluation_id for one in whole.evaluations] == newest_first
    assert [one.evaluation_id for one in [*first.evaluations, *second.evaluations]] == newest_first
    assert first.next_page_token and not whole.next_page_token and not second.next_page_token
    assert set(made) <= every
    other = await refusal(page(page_size=2, page_token=first.next_page_token))
    assert other.reason == "INVALID_PAGE_TOKEN"


async def test_an_evaluation_that_is_sent_again_is_stored_once(setting: Setting, adapters):
    adapter_id = await setting.adapter()
    request = Create(evaluation=evaluation(adapter_id), request_id=f"evaluation-{adapter_id}")

    first, again = [(await adapters.CreateAdapterEvaluation(request)).evaluation for _ in range(2)]

    assert first == again
    assert list((await adapters.ListAdapterEvaluations(List(adapter_id=adapter_id))).evaluations) == [first]


async def test_what_an_evaluation_names_must_be_there(setting: Setting, adapters):
    adapter_id = await setting.adapter()

    for call, reason in (
        (adapters.ListAdapterEvaluations(List(adapter_id=f"adp_{NOBODY}")), "ADAPTER_NOT_FOUND"),
        (
            adapters.CreateAdapterEvaluation(Create(evaluation=evaluation(f"adp_{NOBODY}"))),
            "ADAPTER_NOT_FOUND",
        ),
        (
            adapters.CreateAdapterEvaluation(Create(evaluation=evaluation(adapter_id, before_run_id=f"run_{NOBODY}"))),
            "RUN_NOT_FOUND",
        ),
        (
            adapters.CreateAdapterEvaluation(Create(evaluation=evaluation(adapter_id, after_run_id=f"run_{NOBODY}"))),
            "RUN_NOT_FOUND",
        ),
    ):
        found = await refusal(call)
        assert (found.code, found.reason) == (grpc.StatusCode.NOT_FOUND, reason)
    assert not (await adapters.ListAdapterEvaluations(List(adapter_id=adapter_id))).evaluations


async def test_runs_that_do_not_play_what_is_measured_are_refused_with_their_fields(
    setting: Setting, adapters, playing_run
):
    adapter_id, other_id = await setting.adapter(), await setting.adapter()
    mine, others, another = (
        await playing_run(adapter_id, "a song"),
        await playing_run(other_id, "a song"),
        await playing_run(other_id, "another song"),
    )
    training = await setting.run()

    for before, after, paths in (
        (training, training, ["evaluation.before_run_id", "evaluation.after_run_id"]),
        ("", others, ["evaluation.after_run_id"]),
        (mine, mine, ["evaluation.before_run_id"]),
        (another, mine, ["evaluation.after_run_id"]),
    ):
        given = evaluation(adapter_id, before_run_id=before, after_run_id=after)
        refused = await refusal(adapters.CreateAdapterEvaluation(Create(evaluation=given)))
        assert (refused.code, refused.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "INVALID_FIELD")
        assert list(refused.fields) == paths


@pytest.mark.parametrize(
    ("fields", "path"),
    [
        ({"measures": []}, "evaluation.measures"),
        ({"scorer": "rm -rf"}, "evaluation.scorer"),
        ({"measures": [measure(before=Estimate(value=float("nan")))]}, "evaluation.measures[0].before.value"),
        ({"measures": [measure(after=None)]}, "evaluation.measures[0].after"),
        ({"measures": [measure(clip_count=0)]}, "evaluation.measures[0].clip_count"),
        ({"measures": [measure(name="a\nb")]}, "evaluation.measures[0].name"),
        ({"measures": [measure(before=Estimate(value=0.5, high=0.4))]}, "evaluation.measures[0].before"),
        ({"measures": [measure(after=Estimate(value=1, high=1.5))]}, "evaluation.measures[0]"),
        ({"measures": [measure(difference=Estimate(low=-2))]}, "evaluation.measures[0]"),
    ],
)
async def test_an_evaluation_that_breaks_a_rule_is_refused_with_its_field(
    setting: Setting, adapters, fields: dict[str, object], path: str
):
    adapter_id = await setting.adapter()

    refused = await refusal(adapters.CreateAdapterEvaluation(Create(evaluation=evaluation(adapter_id, **fields))))

    assert refused.reason == "INVALID_FIELD"
    assert list(refused.fields) == [path]


async def test_the_report_of_an_adapter_ends_with_its_last_twenty_evaluations(setting: Setting, adapters):
    adapter_id = await setting.adapter()
    wanted = adapter_pb2.GetAdapterReportRequest(adapter_id=adapter_id)
    before = await adapters.GetAdapterReport(wanted)
    made = [
        (await adapters.CreateAdapterEvaluation(Create(evaluation=evaluation(adapter_id)))).evaluation
        for _ in range(22)
    ]

    after = await adapters.GetAdapterReport(wanted)

    assert before.markdown.startswith("# ") and not before.evaluations
    assert after.report == before.report
    assert list(after.evaluations) == sorted(made, key=lambda one: one.evaluation_id, reverse=True)[:20]
    assert after.markdown.startswith(f"{before.markdown}\n## Heard\n")
    assert after.markdown.count("| mode=major | clips | before | after | difference |") == 20
    assert after.markdown.endswith(
        "| wished share | 96 | 25.0 % (12.5 to 50.0) | 25.0 % (12.5 to 50.0) | +0.0 points (-10.0 to +10.0) |\n"
    )
