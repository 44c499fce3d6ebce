"""Who judges clips: the listener, by a wish, or a scorer of the user's own.

A scorer is a Python function of this machine, `module:function(wave: float32 [N], rate_hz: int, prompt: str) ->
dict[str, float]`. It runs in this process; a server is told its name and nothing more.
"""

from __future__ import annotations

import importlib
import math
import operator
import re
import sys
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from numbers import Real
from pathlib import Path
from typing import Any, Protocol, TypeVar

import click
import numpy as np
from numpy.typing import NDArray

from trainer_node.tunes import evaluation
from trainer_node.tunes.listener import Heard, listen
from trainer_node.tunes.prompts import read
from trainer_node.tunes.wish import Question, open_questions, opposite_questions
from trainer_node.tunes.world import RATE_HZ
from tunesmith.errors import FieldProblem, InvalidField, TunesmithError
from tunesmith.v1.adapter_pb2 import Measure

TUNES = "tunes"  # the listener's name as a scorer
MOST_DRAWN = 8  # questions drawn for each that is needed: few attributes left make the same prompt again and again
MOST = 1e100  # of a score: its square has to be a number, too
MOST_PROMPTS, MOST_EACH = 1_000, 64  # of a run, as the contract says
MOST_LETTERS = 100  # of the name of a score, as the contract says

H = TypeVar("H")
Wave = NDArray[np.float32]


class Ears(Protocol[H]):
    """What is played for an evaluation, and what is heard of it.

    scorer, wish: as the evaluation names them. prompts: each played `clips_per_prompt` times.
    """

    @property
    def scorer(self) -> str:
        """Its name."""

    @property
    def wish(self) -> Mapping[str, str]:
        """What is wished for; empty where it knows of no wishes."""

    @property
    def prompts(self) -> Sequence[str]:
        """What is played."""

    @property
    def clips_per_prompt(self) -> int:
        """How often."""

    def hear(self, wave: Wave, rate_hz: int, prompt: str) -> H:
        """What a clip of [N] samples is like."""

    def compare(self, before: Sequence[H], after: Sequence[H]) -> list[Measure]:
        """What has changed. before, after: what was heard of the clips, the clips of a prompt one behind the other."""


@dataclass(frozen=True, kw_only=True)
class Listener:
    """Listens for a wish, in answers to open and to opposite questions, in any order."""

    wish: Mapping[str, str]
    questions: Sequence[Question]
    clips_per_prompt: int
    scorer: str = TUNES

    @classmethod
    def asking(cls, wish: Mapping[str, str], *, clips: int, seed: int, without: Collection[str] = ()) -> Listener:
        """With questions for at least `clips` clips of each kind. without: prompts that are asked only where there are
        no others.

        No prompt is asked twice, for with the same seed it would be the same clip; where there are not enough prompts,
        each is played with several seeds.
        """
        unseen = open_questions(wish, MOST_DRAWN * clips, seed=seed, without=without)
        opens = _distinct(unseen or open_questions(wish, MOST_DRAWN * clips, seed=seed))
        opposites = _distinct(opposite_questions(wish, MOST_DRAWN * clips, seed=seed))
        clips_per_prompt = clips_each(min(len(opens), len(opposites), clips), clips)
        count = math.ceil(clips / clips_per_prompt)
        return cls(wish=wish, questions=[*opens[:count], *opposites[:count]], clips_per_prompt=clips_per_prompt)

    @classmethod
    def hearing(cls, wish: Mapping[str, str], prompts: Sequence[str], *, clips_per_prompt: int) -> Listener:
        """Of prompts that somebody wrote: each asks for what it says in words of the listener's world.

        Raises InvalidField for prompts that are neither open nor opposite, and for fewer clips of a kind than can be
        compared.
        """
        questions = [Question(prompt, read(prompt)) for prompt in prompts]
        opens = [question for question in questions if question.leaves_open(wish)]
        opposites = [question for question in questions if question.opposes(wish)]
        if neither := [one.prompt for one in questions if not (one.leaves_open(wish) or one.opposes(wish))]:
            what = f"{len(neither)} of {len(prompts)} neither leave {', '.join(wish)} open nor ask for the opposite"
            raise _unfit(f"{what}, first {neither[0]!r}; take other prompts, or another wish")
        if len(opens) * clips_per_prompt < evaluation.LEAST_CLIPS:
            raise _unfit(f"{len(opens)} leave {', '.join(wish)} open; take {evaluation.LEAST_CLIPS}, or more clips")
        if opposites and len(opposites) * clips_per_prompt < evaluation.LEAST_CLIPS:
            raise _unfit(f"one asks for the opposite; take {evaluation.LEAST_CLIPS}, none, or more clips")
        return cls(wish=wish, questions=questions, clips_per_prompt=clips_per_prompt)

    @property
    def prompts(self) -> Sequence[str]:
        """One of each question."""
        return [question.prompt for question in self.questions]

    def hear(self, wave: Wave, rate_hz: int, prompt: str) -> Heard:
        """The attributes of a clip. Raises InvalidField where it cannot be one of the world that it knows."""
        if rate_hz != RATE_HZ:
            what = (
                f"the listener knows tunes at {RATE_HZ:,} Hz alone, and these clips have {rate_hz:,}; give a --scorer"
            )
            raise InvalidField.of([FieldProblem("wish", what)])
        return listen(wave, rate_hz)

    def compare(self, before: Sequence[Heard], after: Sequence[Heard]) -> list[Measure]:
        """How far the wish is learnt, and at what price."""
        asked = [one for one in self.questions for _ in range(self.clips_per_prompt)]
        answers = [
            evaluation.Answer(question=question, before=earlier, after=later)
            for question, earlier, later in zip(asked, before, after, strict=True)
        ]
        opens = [answer for answer in answers if answer.question.leaves_open(self.wish)]
        opposites = [answer for answer in answers if answer.question.opposes(self.wish)]
        return evaluation.of_wish(self.wish, opens, opposites)


@dataclass(frozen=True, kw_only=True)
class Scorer:
    """Asks a function of the user's own."""

    scorer: str
    function: Callable[[Wave, int, str], object]
    prompts: Sequence[str]
    clips_per_prompt: int

    @classmethod
    def of(cls, name: str, prompts: Sequence[str], *, clips_per_prompt: int) -> Scorer:
        """The scorer `module:function`. Raises UsageError, ScorerFailed, and InvalidField for one clip alone."""
        if len(prompts) * clips_per_prompt < evaluation.LEAST_CLIPS:
            raise _unfit(f"there is one clip to hear; take {evaluation.LEAST_CLIPS}")
        return cls(scorer=name, function=_imported(name), prompts=prompts, clips_per_prompt=clips_per_prompt)

    @property
    def wish(self) -> Mapping[str, str]:
        """It knows of none."""
        return {}

    def hear(self, wave: Wave, rate_hz: int, prompt: str) -> dict[str, float]:
        """The scores of a clip. Raises ScorerFailed where the function raises, or returns something else."""
        try:
            scores = self.function(wave, rate_hz, prompt)
        except Exception as error:
            what = f"{self.scorer} failed at a clip of {prompt!r}: {type(error).__name__}: {error}"
            raise ScorerFailed(f"{what}; correct it (--debug shows where it failed), and evaluate again") from error
        if not isinstance(scores, Mapping) or not all(_is_score(*score) for score in scores.items()):
            what = f"{self.scorer} returned {scores!r:.200} of a clip of {prompt!r}"
            raise ScorerFailed(f"{what}; return a dict of numbers by names of 1 to {MOST_LETTERS} characters")
        return {name: float(value) for name, value in scores.items()}

    def compare(self, before: Sequence[Mapping[str, float]], after: Sequence[Mapping[str, float]]) -> list[Measure]:
        """The mean of each score."""
        return evaluation.of_scores(before, after)


class ScorerFailed(TunesmithError):
    """A scorer cannot be imported, raises, or returns something else than scores."""

    reason = "SCORER_FAILED"


def clips_each(prompts: int, clips: int) -> int:
    """How often each prompt is played, so that there are so many clips. Raises UsageError where a run cannot."""
    each = math.ceil(clips / prompts)
    if prompts > MOST_PROMPTS:
        raise click.UsageError(
            f"{prompts:,} different prompts are more than a run plays; give at most {MOST_PROMPTS:,}"
        )
    if each > MOST_EACH:
        most, needed = prompts * MOST_EACH, math.ceil(clips / MOST_EACH)
        what = f"a prompt is played at most {MOST_EACH} times; give {needed} different ones, or --clips {most}"
        raise click.UsageError(what)
    return each


def _unfit(what: str) -> InvalidField:
    return InvalidField.of([FieldProblem("prompts", what)])


def _distinct(questions: Sequence[Question]) -> list[Question]:
    return list({question.prompt: question for question in reversed(questions)}.values())[::-1]


def _is_score(name: object, value: object) -> bool:
    named = isinstance(name, str) and 0 < len(name) <= MOST_LETTERS and name.isprintable()
    return named and isinstance(value, Real) and _is_moderate(value)


def _is_moderate(value: Real) -> bool:
    """Whether it can be reckoned with; what is no finite number is told of later, by its clip."""
    try:
        return not MOST < abs(float(value)) < math.inf
    except OverflowError:
        return False


def _imported(name: str) -> Callable[[Wave, int, str], object]:
    """The function that is named; its module is also looked for in this folder, behind what is installed."""
    if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_.]{0,199}:[A-Za-z_][A-Za-z0-9_.]{0,99}", name):
        raise click.UsageError(f"--scorer {name}: write module:function, such as ears:warmth for ears.py")
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.append(here)
    module, _, function = name.partition(":")
    try:
        found: Any = operator.attrgetter(function)(importlib.import_module(module))
    except Exception as error:  # a module may do anything while it is imported
        what = f"{name} cannot be imported: {type(error).__name__}: {error}"
        raise ScorerFailed(f"{what}; it is looked for among what is installed, and in {here}") from error
    if not callable(found):
        raise ScorerFailed(f"{name} is no function but {type(found).__name__}; name one of (wave, rate_hz, prompt)")
    return found  # type: ignore[no-any-return]  # what it returns is checked clip by clip
