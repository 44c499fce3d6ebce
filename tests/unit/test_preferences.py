"""Preferences: what follows from ratings and comparisons, and what is said of it."""

from __future__ import annotations

import time
from collections import Counter
from itertools import combinations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tunesmith.errors import InvalidField
from tunesmith.preferences import Ranked, RatedClip, derive, summary, why_nothing
from tunesmith.v1.dataset_pb2 import Derivation, PairSettings, RankedListSettings

PAIRS = Derivation(pairs=PairSettings())
LISTS = Derivation(ranked_lists=RankedListSettings())


def pairs_with(**settings: float) -> Derivation:
    return Derivation(pairs=PairSettings(**settings))


def lists_with(**settings: float) -> Derivation:
    return Derivation(ranked_lists=RankedListSettings(**settings))


def rated(prompt: str = "p", **ratings: float) -> list[RatedClip]:
    return [RatedClip(prompt, clip, rating) for clip, rating in ratings.items()]


def pair(chosen: str, rejected: str, prompt: str = "p") -> Ranked:
    return Ranked(prompt, ((chosen, 1), (rejected, 2)))


def ranked(*clips: tuple[str, int], prompt: str = "p") -> Ranked:
    return Ranked(prompt, clips)


GRID = st.integers(10, 50).map(lambda tenths: tenths / 10)
CLIPS = st.lists(
    st.builds(RatedClip, st.sampled_from("pq"), st.sampled_from("abcdefghij"), GRID),
    max_size=25,
    unique_by=lambda clip: (clip.prompt, clip.clip),
)
GAPS = st.integers(1, 40).map(lambda tenths: tenths / 10)


@st.composite
def comparison(draw: st.DrawFn) -> Ranked:
    clips = draw(st.lists(st.sampled_from("abcdefghij"), min_size=2, max_size=5, unique=True))
    steps = draw(st.lists(st.integers(0, 1), min_size=len(clips), max_size=len(clips)))
    ranks = [1 + sum(steps[1 : place + 1]) for place in range(len(clips))]
    return Ranked(draw(st.sampled_from("pq")), tuple(zip(clips, ranks, strict=True)))


COMPARISONS = st.lists(comparison(), max_size=6)


def test_two_clips_of_a_prompt_that_are_rated_a_gap_apart_are_a_pair_with_the_better_one_chosen():
    clips = [*rated(a=2, b=5, c=4.5), RatedClip("another prompt", "d", 1)]

    pairs, derivation = derive(clips, [], PAIRS)

    assert pairs == [pair("b", "a"), pair("c", "a")]
    assert derivation == Derivation(
        pairs=PairSettings(min_rating_gap=1, max_pairs_per_prompt=100),
        count=2,
        prompt_count=1,
        tie_count=1,
        unordered_prompt_count=1,
    )


@pytest.mark.parametrize(("low", "high", "gap"), [(2.3, 3.3, 1), (1.1, 1.4, 0.1 + 0.2), (1, 5, 4), (1.9, 2.2, 0.3)])
@pytest.mark.parametrize("wanted", ["pairs", "ranked_lists"])
def test_a_gap_that_only_floats_make_too_small_is_wide_enough(low: float, high: float, gap: float, wanted: str):
    settings = pairs_with(min_rating_gap=gap) if wanted == "pairs" else lists_with(min_rating_gap=gap)

    found, derivation = derive(rated(a=low, b=high), [], settings)

    assert found == [pair("b", "a")]
    assert derivation.tie_count == 0


def test_equal_ratings_are_tied_however_small_the_gap():
    pairs, derivation = derive(rated(a=3, b=3), [], pairs_with(min_rating_gap=1e-12))

    assert pairs == []
    assert derivation.tie_count == 1


def test_above_the_limit_of_a_prompt_the_widest_pairs_stay_then_those_added_first():
    clips = rated(low=1, mid=2, high=4, top=5)

    pairs, derivation = derive(clips, [], pairs_with(max_pairs_per_prompt=3))

    assert pairs == [pair("top", "low"), pair("high", "low"), pair("top", "mid")]
    assert derivation.capped_count == 3


def test_pairs_of_comparisons_come_first_and_are_not_limited():
    comparisons = [ranked(("x", 1), ("y", 2), ("z", 2), prompt="q"), ranked(("a", 1), ("b", 2))]

    pairs, derivation = derive(rated(c=5, d=1, e=2), comparisons, pairs_with(max_pairs_per_prompt=1))

    assert pairs == [pair("x", "y", "q"), pair("x", "z", "q"), pair("a", "b"), pair("c", "d")]
    assert (derivation.from_comparisons_count, derivation.prompt_count) == (3, 2)


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        (ranked(("b", 1), ("a", 2), ("c", 3)), [pair("b", "a"), pair("b", "c"), pair("a", "c")]),
        (ranked(("a", 1), ("b", 1), ("c", 2)), [pair("a", "c"), pair("b", "c")]),
    ],
)
def test_what_a_comparison_says_stands_above_the_ratings(said: Ranked, expected: list[Ranked]):
    pairs, derivation = derive(rated(a=5, b=1, c=1), [said], PAIRS)

    assert pairs == expected
    assert (derivation.tie_count, derivation.capped_count) == (0, 0)


def test_raters_may_disagree_and_agreeing_comparisons_count_once():
    pairs, _ = derive([], [pair("a", "b"), pair("b", "a"), pair("a", "b")], PAIRS)

    assert pairs == [pair("a", "b"), pair("b", "a")]


def test_a_clip_that_is_rated_twice_with_one_prompt_counts_as_rated_first():
    pairs, derivation = derive([*rated(a=5, b=1), *rated(b=5)], [], PAIRS)

    assert pairs == [pair("a", "b")]
    assert derivation.tie_count == 0


def test_clips_near_the_best_of_a_rank_share_it_in_a_list():
    lists, derivation = derive(rated(a=3.9, b=5, c=4.5, d=3, e=4), [], LISTS)

    assert lists == [ranked(("b", 1), ("c", 1), ("e", 2), ("a", 2), ("d", 3))]
    assert derivation.tie_count == 2
    assert derivation.ranked_lists.max_list_size == 8


def test_a_prompt_with_many_clips_is_dealt_to_lists_that_each_have_good_and_bad_ones():
    lists, derivation = derive(rated(a=5, b=5, c=3, d=3, e=1), [], lists_with(max_list_size=3))

    assert lists == [ranked(("a", 1), ("c", 2), ("e", 3)), ranked(("b", 1), ("d", 2))]
    assert (derivation.count, derivation.prompt_count) == (2, 1)


def test_a_comparison_is_a_list_as_it_is_and_dealt_where_it_is_longer():
    short = ranked(("a", 1), ("b", 1), ("c", 2))
    long = ranked(("a", 1), ("b", 2), ("c", 3), ("d", 3), prompt="q")

    lists, derivation = derive([], [short, long, short], lists_with(max_list_size=3))

    assert lists == [short, ranked(("a", 1), ("c", 2), prompt="q"), ranked(("b", 1), ("d", 2), prompt="q")]
    assert derivation.from_comparisons_count == 3


@pytest.mark.parametrize(
    ("clips", "said", "most", "expected"),
    [
        (rated(a=5, b=3, c=1), [], 2, [pair("a", "c"), pair("a", "b")]),
        ([], [ranked(("a", 1), ("b", 1), ("c", 2))], 2, [pair("a", "c"), pair("b", "c")]),
        (
            rated(a=5, b=5, c=5, d=5, e=1),
            [],
            3,
            [ranked(("a", 1), ("c", 1), ("e", 2)), ranked(("b", 1), ("d", 1), ("e", 2))],
        ),
        (rated(a=5, b=5, c=5, d=1), [], 2, [pair("a", "d"), pair("c", "d"), pair("b", "d")]),
        (rated(a=5, b=4.5, c=4), [], 2, [pair("a", "c")]),
    ],
)
def test_clips_that_are_dealt_to_no_other_are_held_against_the_best_or_the_worst(
    clips: list[RatedClip], said: list[Ranked], most: int, expected: list[Ranked]
):
    lists, _ = derive(clips, said, lists_with(max_list_size=most))

    assert sorted(each.clips for each in lists) == sorted(each.clips for each in expected)


def test_a_list_of_ratings_does_not_contradict_a_comparison():
    lists, derivation = derive(rated(a=5, b=4, c=3, d=1), [pair("c", "a")], LISTS)

    assert lists == [pair("c", "a"), ranked(("a", 1), ("b", 2), ("d", 3))]
    assert derivation.from_comparisons_count == 1


def test_prompts_with_one_clip_or_ties_only_are_counted_as_without_an_order():
    clips = [*rated("single", a=5), *rated("tied", a=5, b=4.9), *rated("ordered", a=5, b=1)]

    for wanted in (PAIRS, LISTS):
        found, derivation = derive(clips, [], wanted)

        assert found == [pair("a", "b", "ordered")]
        assert (derivation.unordered_prompt_count, derivation.tie_count) == (2, 1)


def test_ranks_with_gaps_and_clips_in_any_order_are_put_in_order():
    lists, _ = derive([], [ranked(("c", 9), ("a", 4), ("b", 4))], LISTS)

    assert lists == [ranked(("a", 1), ("b", 1), ("c", 2))]


@pytest.mark.parametrize("wanted", [pairs_with(min_rating_gap=0), lists_with(max_list_size=65)])
def test_a_setting_out_of_range_is_refused(wanted: Derivation):
    with pytest.raises(InvalidField, match=r"(pairs\.min_rating_gap|ranked_lists\.max_list_size)"):
        derive([], [], wanted)


@pytest.mark.parametrize("wanted", [PAIRS, LISTS])
def test_ten_thousand_clips_of_one_prompt_take_no_second(wanted: Derivation):
    clips = [RatedClip("p", f"clip {n}", 1 + n % 41 / 10) for n in range(10_000)]
    said = [pair(f"clip {n}", f"clip {n + 1}") for n in range(2_000)]
    begin = time.process_time()

    found, derivation = derive(clips, said, wanted)

    assert time.process_time() - begin < 1
    assert derivation.count == len(found) > 1_000


@pytest.mark.parametrize(
    ("counts", "words"),
    [
        (
            {"pairs": {}, "count": 312, "prompt_count": 140, "tie_count": 41},
            "312 pairs from 140 prompts, 41 ties skipped",
        ),
        ({"pairs": {}, "count": 1, "prompt_count": 1}, "1 pair from 1 prompt"),
        (
            {
                "pairs": {},
                "count": 2,
                "prompt_count": 2,
                "tie_count": 1,
                "capped_count": 12,
                "unordered_prompt_count": 3,
            },
            "2 pairs from 2 prompts, 1 tie skipped, 12 pairs above max_pairs_per_prompt left out, "
            "3 prompts without an order",
        ),
        (
            {"ranked_lists": {}, "count": 5, "prompt_count": 4, "unordered_prompt_count": 1},
            "5 ranked lists from 4 prompts, 1 prompt without an order",
        ),
    ],
)
def test_the_summary_says_what_was_derived_and_what_was_left_out(counts: dict[str, object], words: str):
    assert summary(Derivation(**counts)) == words


@pytest.mark.parametrize(
    ("clips", "wanted", "why"),
    [
        ([], PAIRS, "no pairs follow: there are no ratings and no comparisons; add rated clips, or compare clips"),
        (
            [*rated("p", a=5), *rated("q", b=1)],
            LISTS,
            "no ranked lists follow: none of the 2 rated clips shares its prompt with another; rate more clips of a "
            "prompt, or compare clips",
        ),
        (
            [*rated("Slow piano", a=5), *rated("slow  piano", b=1), *rated("bass", c=1)],
            PAIRS,
            "no pairs follow: none of the 3 rated clips shares its prompt with another; write prompts alike that "
            "differ in case or spaces only, such as 'Slow piano' and 'slow  piano'",
        ),
        (
            rated(a=3, b=3),
            PAIRS,
            "no pairs follow: 1 tie, all between equal ratings; rate the clips apart, or compare them",
        ),
        (
            [*rated("p", a=5, b=4.5), *rated("q", c=1, d=1.7, e=1.2)],
            PAIRS,
            "no pairs follow: 4 ties; lower min_rating_gap from 1 to 0.7",
        ),
    ],
)
def test_why_nothing_follows_is_told_with_what_helps(clips: list[RatedClip], wanted: Derivation, why: str):
    found, derivation = derive(clips, [], wanted)

    assert found == []
    assert why_nothing(clips, derivation) == why


@given(CLIPS, COMPARISONS, GAPS)
def test_the_same_input_gives_the_same_result(clips: list[RatedClip], said: list[Ranked], gap: float):
    for wanted in (pairs_with(min_rating_gap=gap, max_pairs_per_prompt=3), lists_with(min_rating_gap=gap)):
        assert derive(clips, said, wanted) == derive(list(clips), list(said), wanted)


@given(CLIPS, GAPS, st.randoms(use_true_random=False))
def test_the_order_of_the_clips_does_not_change_which_pairs_there_are(clips: list[RatedClip], gap: float, random):
    shuffled = list(clips)
    random.shuffle(shuffled)

    pairs, _ = derive(clips, [], pairs_with(min_rating_gap=gap))
    again, _ = derive(shuffled, [], pairs_with(min_rating_gap=gap))

    assert set(pairs) == set(again)


@given(CLIPS, GAPS)
def test_every_two_clips_of_a_prompt_are_a_pair_or_a_tie(clips: list[RatedClip], gap: float):
    pairs, derivation = derive(clips, [], pairs_with(min_rating_gap=gap))

    expected = {
        pair(*sorted((one.clip, two.clip), key={one.clip: -one.rating, two.clip: -two.rating}.get), one.prompt)
        for one, two in combinations(clips, 2)
        if one.prompt == two.prompt and abs(one.rating - two.rating) >= gap - 1e-9
    }
    sizes = [sum(clip.prompt == prompt for clip in clips) for prompt in "pq"]
    assert set(pairs) == expected
    assert len(pairs) + derivation.tie_count == sum(n * (n - 1) // 2 for n in sizes)


@given(CLIPS, COMPARISONS, GAPS, st.integers(1, 8))
def test_the_limit_keeps_the_widest_pairs(clips: list[RatedClip], said: list[Ranked], gap: float, most: int):
    everything, unlimited = derive(clips, said, pairs_with(min_rating_gap=gap))
    kept, limited = derive(clips, said, pairs_with(min_rating_gap=gap, max_pairs_per_prompt=most))

    first = unlimited.from_comparisons_count
    for prompt in "pq":
        of_prompt = [each for each in everything[first:] if each.prompt == prompt]
        assert [each for each in kept[first:] if each.prompt == prompt] == of_prompt[:most]
    assert kept[:first] == everything[:first]
    assert limited.capped_count == len(everything) - len(kept)
    assert limited.tie_count == unlimited.tie_count


@given(CLIPS, COMPARISONS, GAPS)
def test_no_pair_or_list_of_ratings_contradicts_a_comparison(clips: list[RatedClip], said: list[Ranked], gap: float):
    pairs, of_pairs = derive(clips, said, pairs_with(min_rating_gap=gap))
    lists, of_lists = derive(clips, said, lists_with(min_rating_gap=gap))

    compared = {(each.prompt, frozenset((a, b))) for each in said for (a, _), (b, _) in combinations(each.clips, 2)}
    no_worse = {
        (each.prompt, a, b) for each in said for a, rank in each.clips for b, other in each.clips if rank <= other
    }
    assert not any(
        (each.prompt, frozenset(clip for clip, _ in each.clips)) in compared
        for each in pairs[of_pairs.from_comparisons_count :]
    )
    for each in lists[of_lists.from_comparisons_count :]:
        for (better, rank), (worse, below) in combinations(each.clips, 2):
            assert rank == below or (each.prompt, worse, better) not in no_worse


@given(CLIPS, COMPARISONS, GAPS, st.integers(2, 8))
def test_lists_are_ordered_short_and_have_a_clip_once(
    clips: list[RatedClip], said: list[Ranked], gap: float, most: int
):
    lists, derivation = derive(clips, said, lists_with(min_rating_gap=gap, max_list_size=most))

    for each in lists:
        ranks = [rank for _, rank in each.clips]
        assert ranks == sorted(ranks)
        assert set(ranks) == set(range(1, max(ranks) + 1))
        assert 2 <= len({clip for clip, _ in each.clips}) == len(each.clips) <= most
        assert max(ranks) > 1
    ratings = {(clip.prompt, clip.clip): clip.rating for clip in clips}
    of_ratings = lists[derivation.from_comparisons_count :]
    listed = Counter((each.prompt, clip) for each in of_ratings for clip, _ in each.clips)
    again = Counter(prompt for (prompt, _), times in listed.items() if times > 1)
    assert all(clips <= 2 for clips in again.values())  # the best and the worst of a prompt
    for each in of_ratings:
        for (better, rank), (worse, below) in combinations(each.clips, 2):
            assert ratings[each.prompt, better] >= ratings[each.prompt, worse]
            if rank == below:
                assert ratings[each.prompt, better] - ratings[each.prompt, worse] < gap


@given(CLIPS, GAPS, st.integers(2, 5))
def test_every_clip_that_is_a_gap_apart_from_another_is_in_a_list(clips: list[RatedClip], gap: float, most: int):
    lists, _ = derive(clips, [], lists_with(min_rating_gap=gap, max_list_size=most))

    apart = {
        (one.prompt, one.clip)
        for one in clips
        for other in clips
        if one.prompt == other.prompt and abs(one.rating - other.rating) >= gap - 1e-9
    }
    assert {(each.prompt, clip) for each in lists for clip, _ in each.clips} >= apart


@given(COMPARISONS, st.integers(2, 5))
def test_every_clip_of_a_comparison_with_an_order_is_in_a_list(said: list[Ranked], most: int):
    lists, _ = derive([], said, lists_with(max_list_size=most))

    ordered = {(each.prompt, clip) for each in said if each.clips[-1][1] > 1 for clip, _ in each.clips}
    assert {(each.prompt, clip) for each in lists for clip, _ in each.clips} == ordered
