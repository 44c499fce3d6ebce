"""What is made of a node's events before any of them is stored."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from control_plane.db.connection import storable
from control_plane.telemetry.intake import take_in
from control_plane.telemetry.model import MAX_LINE_BYTES, MAX_STEP
from tests.support.telemetry_load import logs_event, metrics_event
from tunesmith.v1 import blob_pb2, job_event_pb2


def batch(**fields: object) -> list[job_event_pb2.JobEvent]:
    sound = {"names": ["loss"], "steps": [1, 2], "times_us": [1, 2], "values": [0.5, 0.4]}
    return [job_event_pb2.JobEvent(seq=1, metrics=job_event_pb2.MetricBatch(**{**sound, **fields}))]


def test_a_sound_batch_becomes_rows():
    intake = take_in([metrics_event(7, {"loss": [0.5, math.nan], "lr": [1e-4, 2e-4]}, [10, 20])], rank=0)

    rows = intake.blocks[0].rows(set_id=3)

    assert [(row.set_id, row.step, row.seq) for row in rows] == [(3, 10, 7), (3, 20, 7)]
    assert rows[0].values == [0.5, 1e-4]
    assert intake.step == 20 and intake.last_seq == 7 and not intake.losses


@pytest.mark.parametrize(
    ("fields", "lost", "why"),
    [
        ({"times_us": [1]}, 2, "unequal length"),
        ({"values": [0.5]}, 1, "unequal length"),
        ({"names": []}, 2, "without names"),
        ({"names": [""]}, 2, "empty or longer"),
        ({"names": ["n" * 201]}, 2, "empty or longer"),
        ({"names": ["a", "a"], "values": [1, 2, 3, 4]}, 4, "twice"),
        ({"names": [f"n{i}" for i in range(2001)], "values": [0] * 4002}, 4002, "at most 2000"),
    ],
)
def test_a_malformed_batch_is_counted_and_says_why(fields, lost, why):
    intake = take_in(batch(**fields), rank=0)

    assert not intake.blocks
    assert [loss.lost for loss in intake.losses] == [lost]
    assert why in intake.losses[0].reason


def test_a_step_out_of_range_is_counted_and_the_rows_beside_it_stay():
    intake = take_in(batch(steps=[-1, MAX_STEP + 1, 5], times_us=[1, 2, 3], values=[1, 2, 3]), rank=0)

    assert [row.step for row in intake.blocks[0].rows(1)] == [5]
    assert [loss.lost for loss in intake.losses] == [2]
    assert intake.step == 5


def test_metrics_of_another_rank_are_counted_not_mixed_in():
    intake = take_in(batch(), rank=1)

    assert not intake.blocks and intake.losses[0].lost == 2


def test_an_event_of_an_unknown_kind_is_counted_and_passed_over():
    intake = take_in([job_event_pb2.JobEvent(seq=4), logs_event(5, ["on"])], rank=0)

    assert intake.last_seq == 5 and len(intake.lines) == 1 and len(intake.losses) == 1


def test_a_checkpoint_whose_file_would_leave_its_folder_is_counted():
    file = blob_pb2.File(path="../../etc/passwd", digest="0" * 64, size_bytes=1)
    saved = job_event_pb2.CheckpointSaved(step=1, files=[file])

    intake = take_in([job_event_pb2.JobEvent(seq=1, checkpoint_saved=saved)], rank=0)

    assert not intake.checkpoints and "path" in intake.losses[0].reason


def test_times_beyond_the_calendar_are_moved_into_it():
    [row] = take_in(batch(steps=[1], times_us=[-5], values=[1]), rank=0).blocks[0].rows(1)
    [late] = take_in(batch(steps=[1], times_us=[2**62], values=[1]), rank=0).blocks[0].rows(1)

    assert row.time_us == 0
    assert late.time_us < 253_402_300_800_000_000


def test_a_long_line_is_cut_between_characters():
    [line] = take_in([logs_event(1, ["é" * MAX_LINE_BYTES])], rank=0).lines

    assert len(line.text.encode()) == MAX_LINE_BYTES
    assert set(line.text) == {"é"}


@given(st.text(st.characters() | st.characters(categories=["Cs"]) | st.just("\0")))
def test_any_text_becomes_one_that_postgres_holds(text):
    kept = storable(text)

    assert "\0" not in kept
    kept.encode()  # no half of a surrogate pair is left
    if "\0" not in text and not any("\ud800" <= character <= "\udfff" for character in text):
        assert kept == text
