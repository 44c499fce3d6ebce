"""What was measured of an adapter, in words."""

from __future__ import annotations

from services.evaluation_words import difference, heard, level, subject
from tunesmith.v1.adapter_pb2 import AdapterEvaluation, Estimate, Measure

SHARE = Measure(
    name="wished | share",
    is_share=True,
    clip_count=96,
    before=Estimate(value=0.479, low=0.382, high=0.578),
    after=Estimate(value=0.906, low=0.831, high=0.95),
    difference=Estimate(value=0.427, low=0.316, high=0.538),
)
MEAN = Measure(
    name="warmth",
    clip_count=96,
    before=Estimate(value=1234.5678, low=-1, high=1e-7),
    difference=Estimate(value=-0.5, low=-1, high=0.25),
)


def test_a_share_is_told_in_percent_and_its_difference_in_points() -> None:
    assert level(SHARE, SHARE.before) == "47.9 % (38.2 to 57.8)"
    assert difference(SHARE) == "+42.7 points (+31.6 to +53.8)"


def test_a_mean_is_told_with_four_digits() -> None:
    assert level(MEAN, MEAN.before) == "1235 (-1 to 1e-07)"
    assert difference(MEAN) == "-0.5 (-1 to +0.25)"


def test_what_was_listened_for_is_the_wish_or_else_the_scorer() -> None:
    wish = {"tempo": "fast", "mode": "major"}

    assert subject(AdapterEvaluation(scorer="tunes", wish=wish)) == "mode=major, tempo=fast"
    assert subject(AdapterEvaluation(scorer="ears:warmth")) == "ears:warmth"


def test_the_section_has_a_table_for_each_evaluation_and_nothing_breaks_out_of_it() -> None:
    first = AdapterEvaluation(
        evaluation_id="evl_2", scorer="tunes", wish={"mode": "ma|jor\n# hello"}, before_run_id="run_1", measures=[SHARE]
    )
    first.create_time.FromSeconds(1_790_000_000)
    second = AdapterEvaluation(evaluation_id="evl_1", scorer="ears:warmth", after_run_id="run_2", measures=[MEAN])

    lines = heard([first, second]).splitlines()

    assert lines == [
        "## Heard",
        "",
        "In brackets: intervals of 95 %.",
        "",
        "`evl_2` by `tunes`, 2026-09-21 14:13 UTC; before played in run_1, after elsewhere:",
        "",
        "| mode=ma\\|jor # hello | clips | before | after | difference |",
        "| --- | --- | --- | --- | --- |",
        "| wished \\| share | 96 | 47.9 % (38.2 to 57.8) | 90.6 % (83.1 to 95.0) | +42.7 points (+31.6 to +53.8) |",
        "",
        "`evl_1` by `ears:warmth`, 1970-01-01 00:00 UTC; before played elsewhere, after in run_2:",
        "",
        "| ears:warmth | clips | before | after | difference |",
        "| --- | --- | --- | --- | --- |",
        "| warmth | 96 | 1235 (-1 to 1e-07) | 0 (0 to 0) | -0.5 (-1 to +0.25) |",
    ]


def test_a_report_of_what_was_never_evaluated_has_no_such_section() -> None:
    assert heard([]) == ""
