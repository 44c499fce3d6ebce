"""What a rater wishes for, such as mode=major, and the prompts by which it is found out whether a model has learnt it.

*Open* prompts leave the wished attributes open: what is played there is the model's own choice. *Opposite* prompts ask
for another value: an adapter that no longer obeys them has learnt too much.
"""

from __future__ import annotations

import itertools
from collections.abc import Collection, Iterable
from dataclasses import dataclass

import numpy as np

from trainer_node.tunes import prompts
from trainer_node.tunes.listener import Heard
from trainer_node.tunes.world import VALUES, Attributes, Random, draw
from tunesmith.errors import FieldProblem, InvalidField

_TRIES = 20  # draws for each question, where some are left out
_SAID_BESIDE = (2, 3)  # attributes that a prompt says beside the wished ones: it leaves the model some choice


@dataclass(frozen=True)
class Question:
    """A prompt, and the attributes that it asks for."""

    prompt: str
    asked: Attributes

    def leaves_open(self, wish: Attributes) -> bool:
        """Whether it asks for nothing that is wished for, nor for something else instead."""
        return self.asked.keys().isdisjoint(wish)

    def opposes(self, wish: Attributes) -> bool:
        """Whether it asks for another value of everything that is wished for."""
        return all(self.asked.get(name, value) != value for name, value in wish.items())


def parse_wish(texts: Iterable[str]) -> dict[str, str]:
    """`mode=major` and the like as attributes. Raises InvalidField naming what there is to wish for."""
    wish: dict[str, str] = {}
    for text in texts:
        name, _, value = text.partition("=")
        if name not in VALUES:
            what = f"{text!r}: there is no attribute {name!r}; give one of {', '.join(VALUES)}, such as mode=major"
            raise InvalidField.of([FieldProblem("wish", what)])
        if value not in VALUES[name]:
            raise InvalidField.of([FieldProblem("wish", f"{text!r}: {name} is one of {', '.join(VALUES[name])}")])
        if wish.get(name, value) != value:
            raise InvalidField.of([FieldProblem("wish", f"{name} is wished for twice; give it once")])
        wish[name] = value
    if len(wish) == len(VALUES):
        raise InvalidField.of([FieldProblem("wish", "every attribute is wished for; leave one for the prompts to say")])
    return wish


def is_fulfilled(heard: Heard, wish: Attributes) -> bool | None:
    """Whether everything that is wished for was heard; None where that is unclear."""
    found = [heard.attributes[name] for name in wish]
    if any(value is not None and value != wanted for value, wanted in zip(found, wish.values(), strict=True)):
        return False
    return None if None in found else True


def open_questions(wish: Attributes, count: int, *, seed: int, without: Collection[str] = ()) -> list[Question]:
    """Prompts that say nothing of what is wished for, and two or three other things.

    without: prompts that are not asked, such as those that a training has seen. There may be fewer than `count` then:
    the more is wished for, the less is left to say.
    """
    random = np.random.default_rng(seed)
    drawn = (_question(random, {}, beside=_others(wish)) for _ in range(count * _TRIES))
    return list(itertools.islice((one for one in drawn if one.prompt not in without), count))


def opposite_questions(wish: Attributes, count: int, *, seed: int) -> list[Question]:
    """Prompts that ask for other values than are wished for, and for two or three other things."""
    random = np.random.default_rng(seed)
    questions = []
    for _ in range(count):
        unwished = {name: _another(random, name, value) for name, value in wish.items()}
        questions.append(_question(random, unwished, beside=_others(wish)))
    return questions


def _question(random: Random, asked: dict[str, str], *, beside: list[str]) -> Question:
    least, most = (min(count, len(beside)) for count in _SAID_BESIDE)
    named = random.permutation(beside)[: int(random.integers(least, most + 1))]
    drawn = draw(random).attributes
    wanted = asked | {str(name): drawn[str(name)] for name in named}
    return Question(prompts.write(random, wanted), wanted)


def _others(wish: Attributes) -> list[str]:
    return [name for name in VALUES if name not in wish]


def _another(random: Random, name: str, value: str) -> str:
    others = [one for one in VALUES[name] if one != value]
    return others[random.integers(len(others))]
