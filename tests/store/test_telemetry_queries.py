"""What `query_metrics` promises: exact values, filters in the database, curves that keep their shape when thinned."""

from __future__ import annotations

import math
import random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from psycopg import AsyncCursor
from psycopg.rows import tuple_row

from control_plane.db.pool import Database
from control_plane.errors import RunNotFound
from control_plane.ids import new_id
from control_plane.runs.model import Job
from control_plane.telemetry import feed, query
from control_plane.telemetry.commands import apply_events
from control_plane.telemetry.model import MAX_STEP, MetricCursor, MetricsAnswer, Series
from control_plane.telemetry.query import query_metrics
from tests.support.fakes import InMemoryBlobs
from tests.support.telemetry_load import TIME_US, end_run, fill_metrics, make_job, metrics_event

ODD = (math.nan, math.inf, -math.inf)


async def store(db: Database, job: Job, *sets: dict[str, dict[int, float]]) -> None:
    """Store metrics, a set for each mapping of name → step → value."""
    events = []
    for points in sets:
        steps = sorted(next(iter(points.values())))
        events.append(
            metrics_event(len(events) + 1, {name: [at[s] for s in steps] for name, at in points.items()}, steps)
        )
    await apply_events(db, InMemoryBlobs(), job, events, lease_s=15)


async def ask(
    db: Database, run_id: str, *names: str, low: int | None = None, high: int | None = None, points: int = 1000
) -> MetricsAnswer:
    async with db.connection() as conn:
        return await query_metrics(conn, run_id, names, low, high, points)


async def only(db: Database, run_id: str, **asked: int | None) -> Series:
    [series] = (await ask(db, run_id, **asked)).series
    return series


def keeps_its_shape(series: Series, curve: dict[int, float], low: int, high: int, points: int) -> None:
    """Everything that thinning promises, against the whole curve."""
    inside = {step: value for step, value in curve.items() if low <= step <= high}
    finite = {step: value for step, value in inside.items() if math.isfinite(value)}
    assert series.total_points == len(inside)
    assert series.steps == sorted(set(series.steps)) and set(series.steps) <= set(inside)
    for step, value, time_us in zip(series.steps, series.values, series.times_us, strict=True):
        assert value == inside[step] or (math.isnan(value) and math.isnan(inside[step]))
        assert time_us == TIME_US + step
    if len(inside) <= points:
        assert series.steps == sorted(inside)
        return
    assert len(series.steps) <= points
    assert series.steps[0] == min(inside) and series.steps[-1] == max(inside)
    if finite:
        shown = [value for value in series.values if math.isfinite(value)]
        assert min(shown) == min(finite.values()) and max(shown) == max(finite.values())
    if len(finite) < len(inside):
        first_odd = min(set(inside) - set(finite))
        assert first_odd in series.steps


@st.composite
def curves(draw: st.DrawFn) -> dict[int, float]:
    """Sparse steps over a few or many buckets, with spikes, plateaus and values that are not finite."""
    noise = random.Random(draw(st.integers(0, 2**32)))
    span = draw(st.sampled_from([40, 300, 5_000, 200_000, 2**40]))
    count = draw(st.integers(1, min(span, 600)))
    steps = sorted(noise.sample(range(span), count))
    levels = draw(st.sampled_from([2, 10_000]))
    curve = {step: float(noise.randrange(levels)) for step in steps}
    for _ in range(draw(st.integers(0, 4))):
        curve[noise.choice(steps)] = noise.choice((*ODD, 1e300, -1e300, -0.0))
    return curve


@given(curve=curves(), cut=st.tuples(st.floats(0, 1), st.floats(0, 1)), points=st.integers(8, 200))
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
async def test_thinning_never_loses_first_last_minimum_maximum_or_that_a_value_is_not_finite(db, curve, cut, points):
    job = await make_job(db)
    await store(db, job, {"loss": curve})
    last = max(curve)
    low, high = sorted(int(share * last) for share in cut)

    whole = await ask(db, job.run_id, points=points)
    part = await ask(db, job.run_id, low=low, high=high, points=points)

    keeps_its_shape(whole.series[0], curve, 0, last, points)
    if part.series:
        keeps_its_shape(part.series[0], curve, low, high, points)
    else:
        assert not [step for step in curve if low <= step <= high]


async def test_the_same_curve_is_thinned_the_same_way_each_time(db):
    job = await make_job(db)
    await fill_metrics(db, job.run_id, points=20_000, stride=7)

    answers = [await only(db, job.run_id, points=300) for _ in range(3)]

    assert answers[0] == answers[1] == answers[2]


async def test_a_curve_that_grows_keeps_the_points_that_were_shown(db):
    noise = random.Random(5)
    curve = {step: noise.random() for step in range(3_000)}
    job = await make_job(db)
    await store(db, job, {"loss": {step: curve[step] for step in range(2_600)}})
    before = await only(db, job.run_id, points=200)

    later = {"loss": {step: curve[step] for step in range(2_600, 3_000)}}
    event = metrics_event(2, {"loss": list(later["loss"].values())}, list(later["loss"]))
    await apply_events(db, InMemoryBlobs(), job, [event], lease_s=15)
    after = await only(db, job.run_id, points=200)

    old_groups = [step for step in before.steps if step < 2_500]
    assert set(old_groups) <= set(after.steps)


@pytest.mark.timeout(120)
async def test_a_million_points_are_thinned_to_what_was_asked_for(db):
    job = await make_job(db)
    await fill_metrics(db, job.run_id, points=1_000_000)

    series = await only(db, job.run_id, points=1000)

    assert series.total_points == 1_000_000 and 500 <= len(series.steps) <= 1000
    assert {50_000, 150_003, 250_006, 999_999, 0} <= set(series.steps)
    assert [step for step, value in zip(series.steps, series.values, strict=True) if math.isnan(value)] == [
        250_006, 500_013, 750_020,
    ]  # fmt: skip


async def test_metrics_are_grouped_by_name_and_filtered_by_name_and_step(db):
    job = await make_job(db)
    steps = {step: step / 10 for step in range(100)}
    await store(db, job, {"loss": steps, "lr": steps}, {"eval_loss": {50: 1.0, 99: 2.0}})

    everything = await ask(db, job.run_id)
    some = await ask(db, job.run_id, "lr", "eval_loss", "absent", low=40, high=60)

    assert [series.name for series in everything.series] == ["eval_loss", "loss", "lr"]
    assert [(series.name, series.steps) for series in some.series] == [("eval_loss", [50]), ("lr", list(range(40, 61)))]
    assert [series.total_points for series in some.series] == [1, 21]


async def test_a_metric_of_two_sets_is_one_curve_with_the_later_value_of_each_step(db):
    job = await make_job(db)
    first = {step: float(step) for step in range(0, 1000, 2)}
    second = {step: float(-step) for step in range(1, 1500, 2)} | {10: 5000.0}
    await store(db, job, {"loss": first, "lr": first}, {"loss": second, "margin": second})
    merged = first | second

    whole, thin = await ask(db, job.run_id, "loss", points=2000), await ask(db, job.run_id, "loss", points=50)

    keeps_its_shape(whole.series[0], merged, 0, 1500, 2000)
    keeps_its_shape(thin.series[0], merged, 0, 1500, 50)


async def test_a_run_without_metrics_says_so_and_one_without_a_match_says_that(db):
    empty, other = await make_job(db), await make_job(db)
    await store(db, other, {"loss": {1: 1.0}})

    none, no_name = await ask(db, empty.run_id), await ask(db, other.run_id, "absent")
    no_step = await ask(db, other.run_id, low=2)

    assert (none.series, none.recorded) == ([], False)
    assert (no_name.series, no_name.recorded) == ([], True)
    assert (no_step.series, no_step.recorded) == ([], True)


async def test_the_answer_tells_whether_the_run_has_ended(db):
    job = await make_job(db)
    await store(db, job, {"loss": {1: 1.0}})

    running = await ask(db, job.run_id)
    await end_run(db, job.run_id)
    ended = await ask(db, job.run_id)

    assert (running.complete, ended.complete) == (False, True)


async def test_an_unknown_run_is_refused(db):
    with pytest.raises(RunNotFound):
        await ask(db, new_id("run"))


async def test_many_curves_share_the_points_of_an_answer(db, monkeypatch):
    monkeypatch.setattr(query, "MAX_ANSWER_POINTS", 300)
    job = await make_job(db)
    steps = {step: step / 7 for step in range(500)}
    await store(db, job, {f"m{number}": steps for number in range(10)})

    answer = await ask(db, job.run_id, points=1000)

    assert len(answer.series) == 10 and all(8 <= len(series.steps) <= 30 for series in answer.series)
    for series in answer.series:
        keeps_its_shape(series, steps, 0, 500, 30)


async def test_filters_by_step_and_place_are_read_from_indexes(db):
    job = await make_job(db)
    for run in (job, *[await make_job(db) for _ in range(5)]):
        await fill_metrics(db, run.run_id, points=20_000)

    plans: list[str] = []

    class Explaining(AsyncCursor[dict[str, object]]):
        """Keeps the plan of each read."""

        async def execute(self, sql: bytes, values: object = None, **options: object) -> AsyncCursor[dict[str, object]]:
            if isinstance(sql, bytes) and b"FROM" in sql:
                plan = AsyncCursor(self.connection, row_factory=tuple_row)
                await plan.execute(b"EXPLAIN " + sql, values)
                plans.append("\n".join(line for (line,) in await plan.fetchall()))
            return await super().execute(sql, values, **options)

    async with db.connection() as conn:
        conn.cursor_factory = Explaining
        await query_metrics(conn, job.run_id, ["loss"], 10_000, 10_100, 1000)
        await query_metrics(conn, job.run_id, ["loss"], 300, 15_000, 100)
        place = MetricCursor(1, 30, MAX_STEP)
        await feed.read_metrics(conn, run_id=job.run_id, names=[], min_step=0, after=place)
        conn.cursor_factory = AsyncCursor

    assert len(plans) >= 6
    assert not [plan for plan in plans if "Seq Scan on metric_steps" in plan or "Seq Scan on metric_rollups" in plan]
    assert "metric_steps_by_arrival" in plans[-1]
