"""The export of a dataset version, as the control plane writes it and a trainer node reads it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trainer_node.data.export import FrozenClip, FrozenComparison, FrozenSample, read_export
from trainer_node.errors import DataInvalid
from trainer_node.training import TrainingClip

RECORD = {"audio_digest": "ab" * 32, "duration_s": 2.5, "prompt": "größer", "rating": 4.0, "tags": {"mode": "major"}}
FIRST, TIED, LAST = ("ab" * 32, "cd" * 32, "ef" * 32)


def clip(digest: str, rank: int, **changes: object) -> dict[str, object]:
    return {"audio_digest": digest, "duration_s": 2.5, "rank": rank} | changes


COMPARISON = {"clips": [clip(FIRST, 1), clip(TIED, 1), clip(LAST, 2)], "prompt": "größer"}


def export(*records: object) -> bytes:
    """One object a line, keys sorted, no spaces, UTF-8, a newline at the end."""
    return b"".join(
        json.dumps(r, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode() + b"\n" for r in records
    )


def test_the_samples_come_back_in_their_order():
    second = RECORD | {"prompt": "b", "rating": 3, "tags": {}}

    read = read_export(export(RECORD, second))

    assert read.samples == [
        FrozenSample("größer", "ab" * 32, 4.0, {"mode": "major"}, 2.5),
        FrozenSample("b", "ab" * 32, 3.0, {}, 2.5),
    ]
    assert read.comparisons == []
    assert read.audio_digests() == ["ab" * 32]


def test_comparisons_come_back_in_their_order_with_their_clips_best_first():
    pair = {"clips": [clip(LAST, 1), clip(FIRST, 2)], "prompt": "b"}

    read = read_export(export(COMPARISON, pair))

    assert read.samples == []
    assert read.comparisons == [
        FrozenComparison("größer", (FrozenClip(FIRST, 1, 2.5), FrozenClip(TIED, 1, 2.5), FrozenClip(LAST, 2, 2.5))),
        FrozenComparison("b", (FrozenClip(LAST, 1, 2.5), FrozenClip(FIRST, 2, 2.5))),
    ]
    assert read.audio_digests() == [FIRST, TIED, LAST]


def test_samples_are_given_the_file_that_has_their_digest():
    (sample,) = read_export(export(RECORD)).training_samples(lambda digest: Path("blobs", digest[:2], digest))

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


def test_clips_of_comparisons_are_given_the_file_that_has_their_digest():
    (comparison,) = read_export(export(COMPARISON)).training_comparisons(lambda digest: Path("blobs", digest))

    assert comparison.prompt == "größer"
    assert comparison.clips[1:] == (
        TrainingClip(audio_path=Path("blobs", TIED), audio_digest=TIED, rank=1),
        TrainingClip(audio_path=Path("blobs", LAST), audio_digest=LAST, rank=2),
    )


@pytest.mark.parametrize(
    "changes",
    [{"prompt": ""}, {"prompt": None}, {"clips": []}, {"clips": None}, {"clips": [clip(FIRST, 1)]},
     {"clips": [clip(FIRST, 1), clip(TIED, 1)]}, {"clips": [clip(FIRST, 1), clip(FIRST, 2)]},
     {"clips": [clip(FIRST, 2), clip(TIED, 1)]}, {"clips": [clip(FIRST, 0), clip(TIED, 1)]},
     {"clips": [clip(FIRST, 1), clip(TIED, 65)]}, {"clips": [clip(FIRST, 1), clip(TIED, 2.5)]},
     {"clips": [clip(FIRST, 1), clip("ab", 2)]}, {"clips": [clip(FIRST, 1), clip(TIED, 2, duration_s=0)]},
     {"clips": [clip(FIRST, 1), clip(TIED, 2, duration_s=float("nan"))]},
     {"clips": [clip(FIRST, 1), clip(TIED, 2, rating=3)]}, {"clips": [clip(FIRST, 1), "x"]},
     {"clips": [clip(f"{n:064x}", n + 1) for n in range(65)]}, {"tags": {}}],
)  # fmt: skip
def test_a_comparison_that_is_not_as_it_was_written_is_named(changes):
    with pytest.raises(DataInvalid, match=r"^line 2 of the data set: .*; freeze a new version$"):
        read_export(export(COMPARISON, COMPARISON | changes))


def test_rated_clips_and_comparisons_do_not_mix():
    with pytest.raises(DataInvalid, match=r"^line 2 of the data set: rated clips and comparisons do not stand in one"):
        read_export(export(RECORD, COMPARISON))


@pytest.mark.parametrize("data", [b"", b"\n", b"[]\n", b"\xff\n", export(RECORD)[:-1], export(RECORD)[:-20] + b"\n"])
def test_an_export_that_is_empty_or_cut_is_refused(data):
    with pytest.raises(DataInvalid):
        read_export(data)


@settings(max_examples=100, deadline=None, derandomize=True)
@given(st.binary(max_size=100))
def test_no_bytes_whatever_cause_anything_but_a_typed_refusal(data):
    with pytest.raises(DataInvalid):
        read_export(data + b"\n")
