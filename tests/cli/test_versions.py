"""Comparisons, and what is frozen of a data set: rated clips, preference pairs, ranked lists."""

from __future__ import annotations

import pytest
from google.protobuf import json_format

from tests.cli.plane_state import id_of
from tunesmith.v1 import dataset_pb2

DATASET = id_of("dst", 1)
CLIPS = [digit * 64 for digit in "1234"]


@pytest.fixture
def songs(fake):
    """A data set of three rated clips of one prompt and one of another; what was frozen of it."""
    fake.state.datasets.append(dataset_pb2.Dataset(dataset_id=DATASET, name="songs"))
    fake.state.samples[DATASET] = [
        dataset_pb2.Sample(prompt=prompt, audio_digest=clip, rating=rating)
        for prompt, clip, rating in zip("aaab", CLIPS, (5, 3, 2.5, 4), strict=True)
    ]
    return fake.state.versions


def compare(fake, *ranks):
    clips = [dataset_pb2.RankedClip(audio_digest=clip, rank=rank) for clip, rank in zip(CLIPS, ranks, strict=False)]
    known = fake.state.comparisons.setdefault(DATASET, [])
    known.append(dataset_pb2.Comparison(comparison_id=id_of("cmp", len(known) + 1), prompt="a", clips=clips))


def create(cli, *args):
    return cli("dataset", "version", "create", "songs", *args)


def test_pairs_are_frozen_and_told_with_their_counts(cli, songs):
    result = create(cli, "--pairs")

    (version,) = songs
    assert version.derivation.WhichOneof("settings") == "pairs"
    assert "froze 2 pairs from 1 prompt, 1 tie skipped, 1 prompt without an order\n" in result.err
    assert f"run submit --experiment NAME --training-type preference --dataset-version {id_of('dsv', 1)}" in result.err
    assert "derivation.count=2" in result.out


def test_a_smaller_gap_and_a_cap_make_other_pairs(cli, songs):
    result = create(cli, "--pairs", "--min-rating-gap", "0.5", "--max-pairs-per-prompt", "1")

    assert songs[0].derivation.pairs == dataset_pb2.PairSettings(min_rating_gap=0.5, max_pairs_per_prompt=1)
    assert "froze 1 pair from 1 prompt, 2 pairs above max_pairs_per_prompt left out" in result.err


def test_ranked_lists_are_frozen_with_their_size(cli, songs):
    result = create(cli, "--ranked-lists", "--max-list-size", "2")

    assert songs[0].derivation.ranked_lists.max_list_size == 2
    assert "--training-type ranking --dataset-version" in result.err


def test_a_dry_run_shows_what_would_be_frozen_and_stores_nothing(cli, songs):
    result = create(cli, "--pairs", "--dry-run", "-o", "json")

    shown = json_format.ParseDict(result.json, dataset_pb2.CreateDatasetVersionResponse()).dataset_version
    assert (shown.dataset_version_id, shown.derivation.count) == ("", 2)
    assert songs == []


@pytest.mark.parametrize(
    ("args", "told"),
    [
        (("--pairs", "--ranked-lists"), "freeze a version of each"),
        (("--min-rating-gap", "1"), "--min-rating-gap needs --pairs or --ranked-lists"),
        (("--pairs", "--max-list-size", "3"), "--max-list-size is not a setting of pairs"),
        (("--ranked-lists", "--max-list-size", "1"), "max_list_size: "),
        (("--pairs", "--min-rating-gap", "0"), "min_rating_gap: "),
        (("--pairs", "--max-pairs-per-prompt", "99999999999"), "max_pairs_per_prompt: "),
        (("--pairs", "--min-rating", "4"), "min_rating: "),
    ],
)
def test_what_does_not_go_together_or_is_out_of_range_is_refused(cli, songs, args, told):
    result = create(cli, *args)

    assert (result.code, songs) == (2, [])
    assert told in result.err


def test_a_data_set_from_which_nothing_follows_is_exit_code_4(cli, songs):
    result = create(cli, "--pairs", "--min-rating-gap", "4")

    assert (result.code, songs) == (4, [])


def test_versions_say_what_they_hold(cli, songs):
    for args in ((), ("--min-rating", "4"), ("--pairs",), ("--ranked-lists",)):
        create(cli, *args)

    lines = cli("dataset", "version", "list", "songs").out.splitlines()
    shown = cli("dataset", "version", "get", "songs@3")

    assert [line.partition("form=")[2].partition(" create_time")[0] for line in lines] == [
        '"ranked lists" count=1 holds="1 ranked list from 1 prompt, 1 tie skipped, 1 prompt without an order"',
        'pairs count=2 holds="2 pairs from 1 prompt, 1 tie skipped, 1 prompt without an order"',
        '"rated clips" count=2 holds="2 clips, those rated 4 or better"',
        '"rated clips" count=4 holds="4 clips"',
    ]
    assert "holds 2 pairs from 1 prompt" in shown.err


def test_comparisons_are_listed_in_the_order_added_and_best_first(cli, fake, songs):
    compare(fake, 1, 2, 2)
    compare(fake, 1, 2)

    lines = cli("dataset", "comparisons", "songs").out.splitlines()
    listed = cli("dataset", "comparisons", "songs", "-o", "jsonl").json_lines
    whole = cli("dataset", "comparisons", "songs", "-o", "json").json

    assert [line.split(" prompt=")[0] for line in lines] == [
        f'comparison_id={id_of("cmp", 1)} order="11111111 > 22222222 = 33333333"',
        f'comparison_id={id_of("cmp", 2)} order="11111111 > 22222222"',
    ]
    assert [[clip["rank"] for clip in one["clips"]] for one in listed] == [[1, 2, 2], [1, 2]]
    assert whole["comparisons"] == listed


def test_comparisons_are_read_by_pages(cli, fake, songs):
    for _ in range(120):
        compare(fake, 1, 2)

    assert len(cli("dataset", "comparisons", "songs", "--all").out.splitlines()) == 120
    assert "there are more than 7" in cli("dataset", "comparisons", "songs", "--limit", "7").err
