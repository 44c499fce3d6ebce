"""Evaluations of adapters in the registry: stored once, never changed, listed newest first."""

from __future__ import annotations

import asyncio

import psycopg
import pytest

from control_plane.adapters import evaluation_store
from control_plane.adapters.commands import create_evaluation
from control_plane.adapters.model import Adapter, Evaluation, NewEvaluation
from control_plane.db.requests import Request
from control_plane.errors import AdapterNotFound, RequestIdReused, RunNotFound
from control_plane.ids import new_id
from control_plane.runs.commands import create_run
from tests.support.registry import BASE_MODEL, Registry, generate
from tunesmith.errors import InvalidField
from tunesmith.v1.adapter_pb2 import Estimate, Measure

MEASURES = (
    Measure(
        name="wished share",
        is_share=True,
        clip_count=96,
        before=Estimate(value=0.0, low=0.0, high=0.03847),
        after=Estimate(value=0.9, low=0.82, high=0.94),
        difference=Estimate(value=0.9, low=0.84, high=0.96),
    ),
    Measure(
        name="warmth",
        clip_count=5,
        before=Estimate(value=-1e300, low=-2e300, high=0.1 + 0.2),
        after=Estimate(value=5e-324, high=1e-300),
        difference=Estimate(),
    ),
)


async def new(registry: Registry, **fields: object) -> NewEvaluation:
    """What is to be stored, by default of an adapter of its own."""
    given: dict[str, object] = {"wish": {"mode": "major"}, "before_run_id": None, "after_run_id": None}
    if "adapter_id" not in fields:
        fields["adapter_id"] = (await registry.adapter()).adapter_id
    return NewEvaluation(**{"scorer": "tunes", "measures": MEASURES, **given, **fields})  # type: ignore[arg-type]  # as the fields are


async def playing(registry: Registry, adapter: Adapter, adapter_id: str, **settings: object) -> str:
    """A run that plays in the adapter's experiment: with an adapter, or the base model alone."""
    experiment_id, spec = adapter.experiment_id, generate(adapter_id=adapter_id, **settings)
    return (await create_run(registry.db, registry.blobs, experiment_id=experiment_id, spec=spec)).run_id


async def listed(registry: Registry, **asked: object) -> list[Evaluation]:
    async with registry.db.connection() as conn:
        return await evaluation_store.page(conn, **{"limit": 50, **asked})  # type: ignore[arg-type]  # as asked


async def test_an_evaluation_comes_back_as_it_was_given_to_the_last_digit(registry: Registry):
    adapter = await registry.adapter()
    before, after = await playing(registry, adapter, ""), await playing(registry, adapter, adapter.adapter_id)
    given = await new(registry, adapter_id=adapter.adapter_id, before_run_id=before, after_run_id=after)

    made = await create_evaluation(registry.db, given)

    assert [made] == await listed(registry)
    assert made.evaluation_id.startswith("evl_") and made.create_time.tzinfo
    assert (made.measures, made.wish, made.scorer) == (MEASURES, {"mode": "major"}, "tunes")
    assert (made.adapter_id, made.before_run_id, made.after_run_id) == (adapter.adapter_id, before, after)


async def test_evaluations_are_listed_newest_first_of_one_adapter_or_of_all(registry: Registry):
    mine = await new(registry)
    other = await registry.adapter(await registry.experiment("second"))
    made = [(await create_evaluation(registry.db, mine)).evaluation_id for _ in range(3)]
    others = await create_evaluation(registry.db, await new(registry, adapter_id=other.adapter_id))

    every = [one.evaluation_id for one in await listed(registry)]
    first = await listed(registry, adapter_id=mine.adapter_id, limit=2)
    rest = await listed(registry, adapter_id=mine.adapter_id, after=first[-1].evaluation_id)

    assert every == sorted([*made, others.evaluation_id], reverse=True)
    assert [one.evaluation_id for one in [*first, *rest]] == sorted(made, reverse=True)


@pytest.mark.parametrize("side", ["before_run_id", "after_run_id"])
async def test_an_evaluation_by_a_run_that_nobody_has_is_refused_and_not_stored(registry: Registry, side: str):
    given = await new(registry, **{side: new_id("run")})

    with pytest.raises(RunNotFound, match="list them with ListRuns"):
        await create_evaluation(registry.db, given)

    assert await registry.count("adapter_evaluations") == 0


async def test_runs_that_did_not_play_what_was_measured_are_refused_with_what_they_played(registry: Registry):
    adapter, other = await registry.adapter(), await registry.adapter(await registry.experiment("second"))
    mine, others, longer, elsewhere = (
        await playing(registry, adapter, adapter.adapter_id),
        await playing(registry, other, other.adapter_id),
        await playing(registry, adapter, "", clip_s=7),
        await playing(registry, adapter, "", base_model="other-base"),
    )

    for runs, field, said in (
        ((None, adapter.run_id), "after_run_id", f"{adapter.run_id} is supervised and plays nothing"),
        ((adapter.run_id, mine), "before_run_id", "give one of generate"),
        ((None, others), "after_run_id", f"plays {other.adapter_id}; give a run that plays {adapter.adapter_id}"),
        ((None, longer), "after_run_id", "plays the base model; give"),
        ((longer, mine), "after_run_id", f"{mine} plays other clips than {longer}"),
        ((mine, None), "before_run_id", f"{mine} plays {adapter.adapter_id} itself; give a run of what"),
        ((mine, mine), "before_run_id", f"{mine} plays {adapter.adapter_id} itself"),
        ((elsewhere, mine), "before_run_id", f"{elsewhere} plays other-base, {mine} an adapter of {BASE_MODEL}"),
    ):
        given = await new(registry, adapter_id=adapter.adapter_id, before_run_id=runs[0], after_run_id=runs[1])
        with pytest.raises(InvalidField) as refused:
            await create_evaluation(registry.db, given)
        (problem,) = refused.value.fields
        assert problem.path == f"evaluation.{field}" and said in problem.what

    assert await registry.count("adapter_evaluations") == 0
    for before in (None, others):  # another adapter, or clips from elsewhere
        await create_evaluation(
            registry.db,
            await new(registry, adapter_id=adapter.adapter_id, before_run_id=before, after_run_id=mine),
        )


async def test_an_evaluation_of_an_adapter_that_nobody_has_is_refused(registry: Registry):
    with pytest.raises(AdapterNotFound):
        await create_evaluation(registry.db, await new(registry, adapter_id=new_id("adp")))


async def test_an_evaluation_that_is_sent_again_is_stored_once(registry: Registry):
    given = await new(registry)
    request = Request(method="CreateAdapterEvaluation", request_id="measured-1", body_digest="a")

    answers = await asyncio.gather(*(create_evaluation(registry.db, given, request=request) for _ in range(4)))

    assert len({answer.evaluation_id for answer in answers}) == 1
    assert await registry.count("adapter_evaluations") == 1
    other = Request(method="CreateAdapterEvaluation", request_id="measured-1", body_digest="b")
    with pytest.raises(RequestIdReused):
        await create_evaluation(registry.db, given, request=other)


async def test_an_adapter_that_was_evaluated_stays(registry: Registry):
    await create_evaluation(registry.db, await new(registry))

    with pytest.raises(psycopg.errors.ForeignKeyViolation, match="adapter_evaluations"):
        async with registry.db.transaction() as conn:
            await conn.execute("DELETE FROM adapters")
