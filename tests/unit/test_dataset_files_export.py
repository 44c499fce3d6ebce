"""The export of a dataset version, as the control plane writes it and a trainer node reads it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trainer_node.data.jsonl import FrozenSample, frozen_training_samples, read_export
from trainer_node.errors import DataInvalid

RECORD = {"audio_digest": "ab" * 32, "duration_s": 2.5, "prompt": "größer", "rating": 4.0, "tags": {"mode": "major"}}


def export(*records: object) -> bytes:
    """One object a line, keys sorted, no spaces, UTF-8, a newline at the end."""
    return b"".join(
        json.dumps(r, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode() + b"\n" for r in records
    )


def test_the_samples_come_back_in_their_order():
    second = RECORD | {"prompt": "b", "rating": 3, "tags": {}}

    samples = read_export(export(RECORD, second))

    assert samples == [
        FrozenSample("größer", "ab" * 32, 4.0, {"mode": "major"}, 2.5),
        FrozenSample("b", "ab" * 32, 3.0, {}, 2.5),
    ]


def test_samples_are_given_the_file_that_has_their_digest():
    (sample,) = frozen_training_samples(read_export(export(RECORD)), lambda digest: Path("blobs", digest[:2], digest))

    assert sample.audio_path == Path("blobs/ab", "ab" * 32)
    assert (sample.audio_digest, sample.prompt, sample.rating) == ("ab" * 32, "größer", 4.0)


@pytest.mark.parametrize(
    "changes",
    [{"prompt": ""}, {"prompt": 3}, {"rating": 0}, {"rating": "4"}, {"rating": None}, {"rating": float("nan")},
     {"audio_digest": "ab"}, {"audio_digest": "../" + "a" * 61}, {"tags": ["x"]}, {"tags": {"x": 1}},
     {"duration_s": 0}, {"duration_s": float("inf")}, {"duration_s": "1"}, {"extra": 1}],
)  # fmt: skip
def test_a_line_that_is_not_as_it_was_written_is_named(changes):
    with pytest.raises(DataInvalid, match=r"^line 2 of the data set: .*; freeze a new version$"):
        read_export(export(RECORD, RECORD | changes))


@pytest.mark.parametrize("data", [b"", b"\n", b"[]\n", b"\xff\n", export(RECORD)[:-1], export(RECORD)[:-20] + b"\n"])
def test_an_export_that_is_empty_or_cut_is_refused(data):
    with pytest.raises(DataInvalid):
        read_export(data)


@settings(max_examples=100, deadline=None, derandomize=True)
@given(st.binary(max_size=100))
def test_no_bytes_whatever_cause_anything_but_a_typed_refusal(data):
    with pytest.raises(DataInvalid):
        read_export(data + b"\n")
