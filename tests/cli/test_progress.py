from __future__ import annotations

import math

from services.cli.progress import Progress, Row, clock, rows_of, sparkline, validated
from tunesmith.v1 import job_event_pb2, run_pb2


def test_packed_rows_are_taken_apart():
    batch = job_event_pb2.MetricBatch(names=["loss", "lr"], steps=[1, 2], times_us=[10, 20], values=[3, 4, 5, 6])

    assert list(rows_of(batch)) == [Row(1, 10, {"loss": 3, "lr": 4}), Row(2, 20, {"loss": 5, "lr": 6})]


def test_speed_and_time_left_follow_the_last_rows():
    progress = Progress(total_steps=100, total_epochs=10)

    for step in range(1, 11):
        progress.see_row(Row(step, step * 500_000, {"loss": 10.0 - step}))

    assert progress.steps_per_s == 2.0
    assert progress.left_s == 45.0
    assert progress.trend == "↓"
    assert progress.facts() == {"epoch": "1/10", "step": "10/100", "loss": "0 ↓", "steps/s": "2"}


def test_an_epoch_ends_with_its_last_step():
    progress = Progress(total_steps=30, total_epochs=3)

    for step, epoch in [(0, 1), (1, 1), (10, 1), (11, 2), (20, 2), (30, 3)]:
        progress.step = step
        assert progress.epoch == epoch


def test_a_training_from_preferences_shows_what_it_is_after_instead_of_the_optimisers_figures():
    progress, ranking, supervised = Progress(), Progress(), Progress()

    shared = {"loss": 0.6931, "learning_rate": 5e-5, "grad_norm": 1.0}
    progress.see_row(Row(1, 0, {**shared, "rewards/chosen": 0.1, "rewards/margin": 0.25, "rewards/accuracy": 0.75}))
    progress.see_row(Row(1, 0, {"eval_loss": 0.7, "eval_rewards/accuracy": 0.5, "eval_logps/chosen": -4000}))
    ranking.see_row(Row(1, 0, {**shared, "rank/kendall_tau": 0.3333, "rank/margin": 0.1}))
    supervised.see_row(Row(1, 0, shared))

    assert progress.facts() == {"loss": "0.6931", "val": "0.7", "margin": "0.25", "acc": "0.75", "val acc": "0.5"}
    assert ranking.facts() == {"loss": "0.6931", "tau": "0.333"}
    assert supervised.facts() == {"loss": "0.6931", "lr": "5e-05", "grad": "1"}


def test_a_validation_is_one_line_of_words():
    preference = Row(40, 0, {"eval_loss": 0.61234, "eval_rewards/accuracy": 0.8, "eval_rewards/chosen": 0.1})
    ranking = Row(40, 0, {"eval_loss": 0.1, "eval_rank/kendall_tau": 0.5, "eval_rank/pair_accuracy": 0.75})

    assert validated(preference) == "validation at step 40: loss 0.6123, accuracy 0.8"
    assert validated(ranking) == "validation at step 40: loss 0.1, Kendall tau 0.5, pair accuracy 0.75"
    assert validated(Row(40, 0, {"loss": 0.5, "rewards/accuracy": 0.8})) == ""


def test_a_later_attempt_may_begin_at_an_earlier_step():
    progress = Progress(total_steps=100)

    for step, time_s in [(40, 0), (50, 10), (41, 100), (42, 101)]:
        progress.see_row(Row(step, time_s * 1_000_000, {"loss": 1.0}))

    assert progress.step == 42
    assert progress.steps_per_s == 1.0


def test_a_run_that_has_not_begun_shows_no_figures():
    progress = Progress()
    progress.see_run(run_pb2.Run(state="RUN_STATE_QUEUED", state_reason="no node is online"))

    assert (progress.state, progress.reason, progress.share, progress.facts()) == ("QUEUED", "no node is online", 0, {})


def test_time_is_written_as_on_a_clock():
    assert [clock(seconds) for seconds in (7, 754, 3723)] == ["0:07", "12:34", "1:02:03"]


def test_a_curve_marks_what_is_not_finite_and_stands_on_one_line():
    assert sparkline([0.0, 1.0, math.nan, 0.5]) == "▁█!▅"
    assert sparkline([1.0]) == "▁"
    assert sparkline([]) == ""
    assert len(sparkline([float(value) for value in range(1000)])) == 40


def test_clips_are_counted_and_timed_as_clips():
    progress = Progress(unit="clip")
    progress.see_run(run_pb2.Run(state="RUN_STATE_RUNNING", total_steps=240))

    for clip in range(1, 13):
        progress.see_row(Row(clip, clip * 2_000_000, {"clips_per_s": 0.5}))

    assert progress.facts() == {"clip": "12/240", "clips/s": "0.5"}
    assert (progress.left_s, progress.epoch) == (456.0, 0)


def test_clips_that_are_played_all_at_once_have_the_speed_that_the_run_tells() -> None:
    progress = Progress(unit="clip", total_steps=8)

    progress.see_row(Row(8, 1_000_000, {"clips_per_s": 2.5}))

    assert progress.facts() == {"clip": "8/8", "clips/s": "2.5"}
