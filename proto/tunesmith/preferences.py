"""From ratings and comparisons to preference pairs or ranked lists: the same for a control plane and the foreground.

Only clips of exactly the same prompt are ever compared. What a comparison says of two clips stands above their ratings:
no pair, and no order in a list, that follows from ratings contradicts a comparison. Everything here is deterministic:
the same clips and comparisons in the same order give the same result, on any machine.
"""

from __future__ import annotations

import heapq
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import combinations, groupby, islice
from typing import TypeVar

from tunesmith import spec
from tunesmith.errors import InvalidField
from tunesmith.v1 import dataset_pb2

# Ratings are compared as whole billionths, so that 3.3 - 2.3 is as far as 1; one billionth of slack is given beside.
_BILLION = 10**9

_Clip = TypeVar("_Clip")
_Ratings = Mapping[str, int]  # of one prompt's clips, in billionths, in the order added
_Said = Mapping[str, set[tuple[str, str]]]  # by prompt: (a, b) where some comparison says that a is no worse than b


@dataclass(frozen=True)
class RatedClip:
    """A clip with its rating. clip: what names it, such as its digest."""

    prompt: str
    clip: str
    rating: float


@dataclass(frozen=True)
class Ranked:
    """Clips of one prompt as (clip, rank), best first; ranks begin at 1 without a gap, equal ranks are ties."""

    prompt: str
    clips: tuple[tuple[str, int], ...]


def derive(
    rated: Sequence[RatedClip], comparisons: Sequence[Ranked], wanted: dataset_pb2.Derivation
) -> tuple[list[Ranked], dataset_pb2.Derivation]:
    """The pairs or lists that follow, and how many: those of comparisons in their order, then by prompt as first rated.

    rated: in the order added; a clip that stands there twice with one prompt counts once, as it was rated first.
    comparisons: ranks may have gaps, clips any order. wanted: its settings say what to derive; open ones take the
    contract's defaults. The Derivation returned has the settings in force and the counts.
    Raises InvalidField for a setting out of range.
    """
    derivation = _settings_in_force(wanted)
    explicit = [_dense(comparison.prompt, comparison.clips) for comparison in comparisons]
    ratings = _by_prompt(rated)
    if derivation.HasField("pairs"):
        ranked = _pairs(ratings, explicit, derivation)
    else:
        ranked = _lists(ratings, explicit, derivation)
    prompts = {each.prompt for each in ranked}
    derivation.count = len(ranked)
    derivation.prompt_count = len(prompts)
    derivation.unordered_prompt_count = len({*ratings, *(each.prompt for each in explicit)} - prompts)
    return ranked, derivation


def summary(derivation: dataset_pb2.Derivation) -> str:
    """The counts in words, such as `312 pairs from 140 prompts, 41 ties skipped`."""
    what = "pair" if derivation.HasField("pairs") else "ranked list"
    text = f"{counted(derivation.count, what)} from {counted(derivation.prompt_count, 'prompt')}"
    if derivation.tie_count:
        text += f", {counted(derivation.tie_count, 'tie')} skipped"
    if derivation.capped_count:
        text += f", {counted(derivation.capped_count, 'pair')} above max_pairs_per_prompt left out"
    if derivation.unordered_prompt_count:
        text += f", {counted(derivation.unordered_prompt_count, 'prompt')} without an order"
    return text


def why_nothing(rated: Sequence[RatedClip], derivation: dataset_pb2.Derivation) -> str:
    """Why no pairs or lists follow of these clips, and what helps. derivation: what `derive` returned with nothing."""
    what = f"no {'pairs' if derivation.HasField('pairs') else 'ranked lists'} follow"
    ratings = _by_prompt(rated)
    if not ratings:
        return f"{what}: there are no ratings and no comparisons; add rated clips, or compare clips"
    if not derivation.tie_count:
        alone = f"none of the {len(rated)} rated clips shares its prompt with another"
        return f"{what}: {alone}; {_how_to_share(ratings)}"
    ties = counted(derivation.tie_count, "tie")
    widest = max(max(clips.values()) - min(clips.values()) for clips in ratings.values())
    if not widest:
        return f"{what}: {ties}, all between equal ratings; rate the clips apart, or compare them"
    settings = derivation.pairs if derivation.HasField("pairs") else derivation.ranked_lists
    # of fewer digits it might be above the widest gap, and of no help
    return f"{what}: {ties}; lower min_rating_gap from {settings.min_rating_gap:g} to {widest / _BILLION:.10g}"


def _how_to_share(prompts: Iterable[str]) -> str:
    written: dict[str, str] = {}
    for prompt in prompts:
        first = written.setdefault(" ".join(prompt.casefold().split()), prompt)
        if first != prompt:
            return f"write prompts alike that differ in case or spaces only, such as {first!r:.80} and {prompt!r:.80}"
    return "rate more clips of a prompt, or compare clips"


def counted(count: int, what: str) -> str:
    """`1 pair`, `2 pairs`."""
    return f"{count} {what}" if count == 1 else f"{count} {what}s"


def _settings_in_force(wanted: dataset_pb2.Derivation) -> dataset_pb2.Derivation:
    kind = wanted.WhichOneof("settings")
    if kind is None:
        raise ValueError("a Derivation says what to derive: pairs or ranked_lists")
    derivation = dataset_pb2.Derivation()
    getattr(derivation, kind).CopyFrom(getattr(wanted, kind))
    spec.fill(getattr(derivation, kind))
    problems = spec.check(getattr(derivation, kind), path=kind)
    if problems:
        raise InvalidField.of(problems)
    return derivation


def _by_prompt(rated: Iterable[RatedClip]) -> dict[str, dict[str, int]]:
    ratings: dict[str, dict[str, int]] = {}
    for each in rated:
        ratings.setdefault(each.prompt, {}).setdefault(each.clip, round(each.rating * _BILLION))
    return ratings


def _dense(prompt: str, clips: Iterable[tuple[str, int]]) -> Ranked:
    """The clips best first, each once, their ranks without gaps."""
    ranks: dict[str, int] = {}
    for clip, rank in clips:
        ranks.setdefault(clip, rank)
    place = {rank: number for number, rank in enumerate(sorted(set(ranks.values())), start=1)}
    return Ranked(prompt, tuple((clip, place[ranks[clip]]) for clip in sorted(ranks, key=ranks.__getitem__)))


def _said(comparisons: Iterable[Ranked]) -> _Said:
    said: dict[str, set[tuple[str, str]]] = {}
    for comparison in comparisons:
        no_worse = said.setdefault(comparison.prompt, set())
        for (better, rank), (worse, rank_below) in combinations(comparison.clips, 2):
            no_worse.add((better, worse))
            if rank == rank_below:
                no_worse.add((worse, better))
    return said


def _least_gap(min_rating_gap: float) -> int:
    """In billionths; at least one, so that equal ratings are tied whatever is asked for."""
    return max(1, round(min_rating_gap * _BILLION) - 1)


def _pairs(
    ratings: Mapping[str, _Ratings], comparisons: Sequence[Ranked], derivation: dataset_pb2.Derivation
) -> list[Ranked]:
    """Pairs of clips, the one liked better first. Sets the counts that are of pairs alone."""
    least_gap = _least_gap(derivation.pairs.min_rating_gap)
    pairs = list(dict.fromkeys(pair for comparison in comparisons for pair in _pairs_of(comparison)))
    derivation.from_comparisons_count = len(pairs)
    said = _said(comparisons)
    for prompt, clips in ratings.items():
        decided = said.get(prompt, set())
        compared = {frozenset(two) for two in decided if two[0] in clips and two[1] in clips}
        too_close = sum(1 for a, b in compared if abs(clips[a] - clips[b]) < least_gap)
        apart = _count_apart(clips, least_gap)
        open_pairs = apart - (len(compared) - too_close)
        free = (two for two in _widest_first(clips, least_gap) if two not in decided and two[::-1] not in decided)
        taken = [_pair(prompt, *two) for two in islice(free, derivation.pairs.max_pairs_per_prompt)]
        pairs += taken
        derivation.tie_count += len(clips) * (len(clips) - 1) // 2 - apart - too_close
        derivation.capped_count += open_pairs - len(taken)
    return pairs


def _pairs_of(comparison: Ranked) -> Iterator[Ranked]:
    for (better, rank), (worse, rank_below) in combinations(comparison.clips, 2):
        if rank < rank_below:
            yield _pair(comparison.prompt, better, worse)


def _pair(prompt: str, chosen: str, rejected: str) -> Ranked:
    return Ranked(prompt, ((chosen, 1), (rejected, 2)))


def _count_apart(clips: _Ratings, least_gap: int) -> int:
    """How many two clips are rated at least `least_gap` apart, without looking at every two."""
    ascending = sorted(clips.values())
    return sum(bisect_right(ascending, rating - least_gap) for rating in ascending)


def _widest_first(clips: _Ratings, least_gap: int) -> Iterator[tuple[str, str]]:
    """(chosen, rejected) from the widest gap on, among equal gaps by the order added; nothing is computed ahead.

    Each clip's own pairs, worst rated first, are in that order already, so merging them is enough: a prompt with ten
    thousand clips has fifty million pairs, of which a few are taken.
    """
    names = list(clips)
    worst_first = sorted(range(len(names)), key=lambda added: clips[names[added]])  # stable: added first among equals

    def row(chosen: int) -> Iterator[tuple[int, int, int]]:
        for rejected in worst_first:
            gap = clips[names[chosen]] - clips[names[rejected]]
            if gap < least_gap:
                return
            yield -gap, chosen, rejected

    for _, chosen, rejected in heapq.merge(*map(row, range(len(names)))):
        yield names[chosen], names[rejected]


def _lists(
    ratings: Mapping[str, _Ratings], comparisons: Sequence[Ranked], derivation: dataset_pb2.Derivation
) -> list[Ranked]:
    """Ranked lists with an order, each once. Sets the counts that are of lists alone."""
    least_gap = _least_gap(derivation.ranked_lists.min_rating_gap)
    most = derivation.ranked_lists.max_list_size
    lists: dict[tuple[str, frozenset[tuple[str, int]]], Ranked] = {}
    for comparison in comparisons:
        hands = _dealt(comparison.clips, most)
        for hand in _ordered(comparison.clips, hands, most, _ranked_apart):
            _add(lists, _dense(comparison.prompt, hand))
    derivation.from_comparisons_count = len(lists)
    said = _said(comparisons)
    for prompt, clips in ratings.items():
        kept = _uncontradicted(clips, said.get(prompt, set()))
        dealt = _dealt(kept, most)
        derivation.tie_count += sum(_ties(_ranks(names, clips, least_gap)) for names in dealt)
        for names in _ordered(kept, dealt, most, partial(_rated_apart, clips, least_gap)):
            _add(lists, Ranked(prompt, tuple(_ranks(names, clips, least_gap))))
    return list(lists.values())


def _add(lists: dict[tuple[str, frozenset[tuple[str, int]]], Ranked], ranked: Ranked) -> None:
    lists.setdefault((ranked.prompt, frozenset(ranked.clips)), ranked)


def _ranked_apart(better: tuple[str, int], worse: tuple[str, int]) -> bool:
    return better[1] < worse[1]


def _rated_apart(clips: _Ratings, least_gap: int, better: str, worse: str) -> bool:
    return clips[better] - clips[worse] >= least_gap


def _uncontradicted(clips: _Ratings, no_worse: set[tuple[str, str]]) -> list[str]:
    """The clips best rated first, then as added, without those that a comparison holds no worse than a better one."""
    equals: dict[str, list[str]] = {}
    for clip, other in no_worse:
        equals.setdefault(clip, []).append(other)
    kept: dict[str, int] = {}
    for clip in sorted(clips, key=lambda clip: -clips[clip]):
        if all(kept.get(other, 0) <= clips[clip] for other in equals.get(clip, ())):
            kept[clip] = clips[clip]
    return list(kept)


def _dealt(clips: Sequence[_Clip], most: int) -> list[Sequence[_Clip]]:
    """The clips dealt in turn to as few lists of at most `most` as there can be, so that each has good and bad ones."""
    hands = -(-len(clips) // most)
    return [clips[hand::hands] for hand in range(hands)]


def _ordered(
    clips: Sequence[_Clip], dealt: Iterable[Sequence[_Clip]], most: int, apart: Callable[[_Clip, _Clip], bool]
) -> Iterator[Sequence[_Clip]]:
    """The lists dealt of `clips` that have an order; of the others each clip beside the best or the worst of all.

    Else a clip that was dealt to clips like it, or to none, would be lost. All come best first. apart: whether the
    first is better than the second. Left out is what is apart from neither, since it is apart from nothing then.
    """
    for hand in dealt:
        if apart(hand[0], hand[-1]):
            yield hand
            continue
        worse = [clip for clip in hand if apart(clips[0], clip)]
        better = [clip for clip in hand if clip not in worse and apart(clip, clips[-1])]
        for start in range(0, len(worse), most - 1):
            yield [clips[0], *worse[start : start + most - 1]]
        for start in range(0, len(better), most - 1):
            yield [*better[start : start + most - 1], clips[-1]]


def _ranks(names: Iterable[str], clips: _Ratings, least_gap: int) -> Iterator[tuple[str, int]]:
    """(clip, rank) of clips that come best first; a clip less than the gap below the best of a rank shares it."""
    rank, best = 0, 0
    for name in names:
        if not rank or best - clips[name] >= least_gap:
            rank, best = rank + 1, clips[name]
        yield name, rank


def _ties(ranked: Iterable[tuple[str, int]]) -> int:
    """How many two clips share a rank."""
    sizes = [len(list(tied)) for _, tied in groupby(ranked, key=lambda clip: clip[1])]
    return sum(size * (size - 1) // 2 for size in sizes)
