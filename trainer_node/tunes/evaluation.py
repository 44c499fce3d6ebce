"""What an adapter has changed, in numbers: the same questions, heard before and after it, with intervals of 95 %.

A share has Wilson's interval, which holds near 0 and 1, a mean that of the normal distribution. A difference is taken
clip by clip: both sides of it were played with the same prompt and seed, so what a prompt makes easy cancels out. That
of shares has Agresti's and Min's interval, which has a width even where every clip has changed, or none.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from trainer_node.tunes.listener import Heard
from trainer_node.tunes.wish import Question, is_fulfilled
from trainer_node.tunes.world import Attributes
from tunesmith.errors import FieldProblem, InvalidField
from tunesmith.v1.adapter_pb2 import Estimate, Measure

LEAST_CLIPS = 2  # of one clip, nobody knows how much clips differ

_Z = 1.959963984540054  # 95 % of a normal distribution lie within so many standard deviations
_EVERYTHING = (-math.inf, math.inf)

Numbers = NDArray[np.float64]
Scores = Mapping[str, float]


@dataclass(frozen=True, kw_only=True)
class Answer:
    """A question, and what was heard of two clips that answer it, both played with one seed."""

    question: Question
    before: Heard
    after: Heard


def of_wish(wish: Attributes, opens: Sequence[Answer], opposites: Sequence[Answer]) -> list[Measure]:
    """How far a wish is learnt, and at what price. opens, opposites: answers to the two kinds of questions.

    `wished share`: open clips that are as wished; what is unclear is not. `others obeyed`: of all that open prompts ask
    for, what is heard. `opposite obeyed`: clips that are as the prompt asks though somebody wishes for the opposite.
    `in scale`: notes of open clips that lie in a scale, the mean of the clips. What is not asked for is not measured:
    there may be no opposites, and open prompts of which nobody knows what they ask for. Raises InvalidField for fewer
    than two answers of a kind.
    """
    _require_enough(min(len(opens), len(opposites) or len(opens)))
    asked = np.array([len(answer.question.asked) for answer in opens], np.float64)
    measures = [_share("wished share", *_sides(opens, lambda _, heard: is_fulfilled(heard, wish) is True))]
    if asked.any():
        measures.append(_share("others obeyed", *_sides(opens, _obeyed), of=asked))
    if opposites:
        obeyed = _sides(opposites, lambda question, heard: _obeys(question, heard, wish))
        measures.append(_share("opposite obeyed", *obeyed))
    return [*measures, _mean("in scale", *_sides(opens, lambda _, heard: heard.in_scale), is_share=True)]


def of_scores(before: Sequence[Scores], after: Sequence[Scores]) -> list[Measure]:
    """The mean of each score, by its name. before, after: scores of clips of the same prompts and seeds, in one order.

    A score is measured of the clips that have it on both sides, and left out where those are fewer than two. Raises
    InvalidField for a score that is not finite, naming side, clip and score, and where no score is left.
    """
    problems = [*_not_finite("before", before), *_not_finite("after", after)]
    if problems:
        raise InvalidField.of(problems)
    measures = []
    for name in dict.fromkeys(name for scores in (*before, *after) for name in scores):
        both = [
            (one[name], other[name]) for one, other in zip(before, after, strict=True) if name in one and name in other
        ]
        if len(both) >= LEAST_CLIPS:
            measures.append(_mean(name, *np.array(both, np.float64).T))
    if not measures:
        what = f"no score is there of {LEAST_CLIPS} clips on both sides; give each clip the same scores"
        raise InvalidField.of([FieldProblem("scores", what)])
    return measures


def wilson(hits: float, count: float) -> Estimate:
    """The share of `hits` in `count`, with the interval of Wilson (1927), which never leaves 0 to 1."""
    share = hits / count
    narrowed = 1 + _Z**2 / count
    centre = (share + _Z**2 / (2 * count)) / narrowed
    reach = _Z / narrowed * math.sqrt(share * (1 - share) / count + _Z**2 / (4 * count**2))
    # a share of 0 or 1 is an end of its interval, which rounding would move it out of
    return Estimate(value=share, low=min(share, max(0.0, centre - reach)), high=max(share, min(1.0, centre + reach)))


def paired(before: Numbers, after: Numbers) -> Estimate:
    """The difference of two shares of the same clips, [N] each, 0 or 1 by clip, with the interval of Agresti and Min
    (2005): the normal one after half a clip is added to each of the four ways that a clip can go."""
    count = len(before)
    gained, lost = float((after > before).sum()), float((after < before).sum())
    moved, whole = (gained - lost), count + 2
    reach = _Z * math.sqrt(gained + lost + 1 - moved**2 / whole) / whole
    value, centre = moved / count, moved / whole
    return Estimate(value=value, low=max(-1.0, min(value, centre - reach)), high=min(1.0, max(value, centre + reach)))


def ratio(parts: ArrayLike, wholes: ArrayLike, within: tuple[float, float] = _EVERYTHING) -> Estimate:
    """The sum of `parts` over the sum of `wholes`, [N] each, a clip a row, with the normal interval that takes clips,
    not parts, for independent (Cochran 1977, 6.4). With wholes of 1 it is the mean and its interval."""
    part_N, whole_N = np.asarray(parts, np.float64), np.asarray(wholes, np.float64)
    count, total = len(part_N), whole_N.sum()
    value = part_N.sum() / total
    spread = math.sqrt(count / (count - 1) * ((part_N - value * whole_N) ** 2).sum()) / total
    low, high = np.clip((value - _Z * spread, value + _Z * spread), *within)
    return Estimate(value=value, low=low, high=high)


def _share(name: str, before: Numbers, after: Numbers, *, of: Numbers | None = None) -> Measure:
    """A share of all that was asked. before, after: how much of it each clip has; of: how much it could have, or 1.

    What one clip has of several is no independent sample, so the intervals of shares are for the one.
    """
    if of is None:
        sides = [wilson(side.sum(), len(side)) for side in (before, after)]
        difference = paired(before, after)
    else:
        sides = [ratio(side, of, (0, 1)) for side in (before, after)]
        difference = ratio(after - before, of, (-1, 1))
    return Measure(
        name=name, is_share=True, clip_count=len(before), before=sides[0], after=sides[1], difference=difference
    )


def _mean(name: str, before: Numbers, after: Numbers, *, is_share: bool = False) -> Measure:
    """A mean over clips. is_share: of shares, which lie between 0 and 1."""
    one = np.ones_like(before)
    within, apart = ((0, 1), (-1, 1)) if is_share else (_EVERYTHING, _EVERYTHING)
    return Measure(
        name=name,
        is_share=is_share,
        clip_count=len(before),
        before=ratio(before, one, within),
        after=ratio(after, one, within),
        difference=ratio(after - before, one, apart),
    )


def _sides(answers: Sequence[Answer], measured: Callable[[Question, Heard], float]) -> tuple[Numbers, Numbers]:
    """What is measured of each clip, before and after."""
    before = [measured(answer.question, answer.before) for answer in answers]
    after = [measured(answer.question, answer.after) for answer in answers]
    return np.array(before, np.float64), np.array(after, np.float64)


def _obeyed(question: Question, heard: Heard) -> int:
    """How many of the attributes that a prompt asks for are heard."""
    return sum(heard.attributes[name] == value for name, value in question.asked.items())


def _obeys(question: Question, heard: Heard, names: Iterable[str]) -> bool:
    """Whether all of these attributes are as the prompt asks."""
    return all(heard.attributes[name] == question.asked[name] for name in names)


def _not_finite(side: str, clips: Sequence[Scores]) -> Iterator[FieldProblem]:
    for number, scores in enumerate(clips):
        for name, value in scores.items():
            if not math.isfinite(value):
                what = f"{value} is no finite number; leave out what cannot be told of a clip"
                yield FieldProblem(f"{side}[{number}].{name}", what)


def _require_enough(clips: int) -> None:
    if clips < LEAST_CLIPS:
        what = f"{clips} is too few to tell how much clips differ; take at least {LEAST_CLIPS}"
        raise InvalidField.of([FieldProblem("clips", what)])
