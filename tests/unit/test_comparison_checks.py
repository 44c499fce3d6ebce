"""Pairs and lists before a training: what cannot be trained on is refused, and whole prompts are held out."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainer_node.errors import DataInvalid
from trainer_node.preflight import require_lists, require_pairs, split_comparisons
from trainer_node.training import TrainingClip, TrainingComparison

HERE = Path(__file__)

Require = Callable[[Sequence[TrainingComparison]], None]


def comparison(*clips: tuple[str, int], prompt: str = "slow piano", audio: Path = HERE) -> TrainingComparison:
    """Clips as (name, rank)."""
    return TrainingComparison(
        prompt=prompt,
        clips=tuple(TrainingClip(audio_path=audio, audio_digest=name, rank=rank) for name, rank in clips),
    )


PAIR = comparison(("a", 1), ("b", 2))


def test_pairs_are_accepted_for_both_and_lists_for_ranking():
    ranked = comparison(("a", 1), ("b", 1), ("c", 2))

    require_pairs([PAIR])
    require_lists([PAIR, ranked])

    with pytest.raises(DataInvalid, match=r"comparison 2 \('slow piano'\) has 3 clips where a pair has two; freeze"):
        require_pairs([PAIR, ranked])


@pytest.mark.parametrize(
    ("require", "comparisons", "says"),
    [
        (require_pairs, [], "no preference pairs; rate or compare clips that share a prompt, or lower min_"),
        (require_pairs, [PAIR, comparison(("a", 1), ("a", 2))], r"comparison 2 \('slow piano'\) are the same clip"),
        (require_pairs, [comparison(("a", 1), ("b", 1))], r"'slow piano'\) is tied, so nothing is preferred; take it"),
        (require_pairs, [comparison(("a", 2), ("b", 1))], "are not best first; freeze a new version"),
        (require_pairs, [comparison(("a", 1))], "has 1 clips where a pair has two; freeze"),
        (require_lists, [], "has no ranked lists; rate or compare clips"),
        (require_lists, [PAIR, comparison(("a", 1))], "has 1 clip, so there is nothing to rank; add clips"),
        (require_lists, [comparison(("a", 1), ("b", 2), ("a", 3))], "has a clip twice; take one of them out"),
        (require_lists, [comparison(("a", 1), ("b", 1), ("c", 1))], "is tied, so nothing is preferred; take it"),
        (require_lists, [comparison(("a", 1), ("b", 3), ("c", 2))], "are not best first; freeze a new version"),
        (require_lists, [comparison(("a", 1), ("b", 2), audio=HERE / "none")], "clip 1 of comparison 1, clip 2"),
    ],
)  # fmt: skip
def test_what_cannot_be_learned_from_is_refused_with_what_to_do(
    require: Require, comparisons: list[TrainingComparison], says: str
):
    with pytest.raises(DataInvalid, match=says):
        require(comparisons)


def of_prompts(*sizes: int) -> list[TrainingComparison]:
    """As many comparisons of each prompt, prompts taking turns."""
    rounds = [[n for n, size in enumerate(sizes) if size > turn] for turn in range(max(sizes))]
    return [comparison(("a", 1), ("b", 2), prompt=f"prompt {n}") for prompts in rounds for n in prompts]


@given(st.lists(st.integers(1, 30), min_size=2, max_size=8), st.floats(0.01, 0.5), st.integers(0, 5))
def test_whole_prompts_are_held_out_and_no_other_would_come_nearer_to_the_share(
    sizes: list[int], fraction: float, seed: int
):
    comparisons = of_prompts(*sizes)

    training, held_out = split_comparisons(comparisons, fraction=fraction, seed=seed)

    trained, heard = (Counter(each.prompt for each in part) for part in (training, held_out))
    assert trained
    assert heard
    assert not trained.keys() & heard.keys()
    assert [*training] == [each for each in comparisons if each.prompt in trained]
    assert [*held_out] == [each for each in comparisons if each.prompt in heard]
    missing = fraction * len(comparisons) - len(held_out)
    could_be_held = [size for size in trained.values() if 2 * size <= len(comparisons)]
    assert len(trained) == 1 or all(size > 2 * missing for size in could_be_held)
    assert -missing <= max(fraction * len(comparisons), min(sizes))
    assert split_comparisons(comparisons, fraction=fraction, seed=seed) == (training, held_out)


@pytest.mark.parametrize(
    ("sizes", "fraction", "held"),
    [
        ([45, 45, 5, 5], 0.1, 10),
        ([60, 35, 5], 0.1, 5),
        ([100, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1], 0.05, 6),
        ([50, 50], 0.1, 50),
    ],
)
def test_a_large_prompt_is_trained_on_where_small_ones_come_nearer_to_the_share(
    sizes: list[int], fraction: float, held: int
):
    held_out = [split_comparisons(of_prompts(*sizes), fraction=fraction, seed=seed)[1] for seed in range(20)]

    assert {len(part) for part in held_out} == {held}


@given(st.integers(2, 12), st.integers(1, 5), st.floats(0.01, 0.5))
def test_prompts_of_one_size_reach_the_share_by_as_few_as_can_be(count: int, size: int, fraction: float):
    training, held_out = split_comparisons(of_prompts(*[size] * count), fraction=fraction, seed=3)

    fewest = min(math.ceil(fraction * count - 1e-6), count - 1)
    assert (len(training), len(held_out)) == (size * (count - fewest), size * fewest)


@pytest.mark.parametrize("seed", range(5))
def test_a_prompt_with_most_of_the_comparisons_is_trained_on(seed: int):
    training, held_out = split_comparisons(of_prompts(30, 1), fraction=0.1, seed=seed)

    assert (len(training), len(held_out)) == (30, 1)


def test_another_seed_holds_out_other_prompts():
    comparisons = of_prompts(*[1] * 20)

    held_out = [split_comparisons(comparisons, fraction=0.2, seed=seed)[1] for seed in range(5)]

    assert len({tuple(each.prompt for each in part) for part in held_out}) > 1


def test_a_single_prompt_can_be_trained_on_but_not_held_out():
    comparisons = of_prompts(3)

    assert split_comparisons(comparisons, fraction=0, seed=1) == (comparisons, [])
    with pytest.raises(DataInvalid, match="set validation_fraction to 0"):
        split_comparisons(comparisons, fraction=0.1, seed=1)
