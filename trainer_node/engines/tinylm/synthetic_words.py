"""The words of the synthetic corpus: picked so that frequent ones exist, and names that no one bears.

Only `random.Random.random` and exact arithmetic are used: the same numbers everywhere, in every version of Python.
"""

from __future__ import annotations

from collections.abc import Sequence
from random import Random
from typing import TypeVar

T = TypeVar("T")


class Dice:
    """Choices that follow from a seed."""

    def __init__(self, seed: str) -> None:
        self._random = Random(seed)

    def of(self, choices: Sequence[T]) -> T:
        """One of the choices, the earlier ones more often: the first tenth almost three times as often as the last."""
        return choices[int(min(self._random.random(), 2 * self._random.random()) * len(choices))]

    def any_of(self, choices: Sequence[T]) -> T:
        """One of the choices, each as often."""
        return choices[int(self._random.random() * len(choices))]

    def chance(self, share: float) -> bool:
        """True in this share of all cases."""
        return self._random.random() < share

    def number(self, least: int, most: int) -> int:
        """A whole number, both ends included."""
        return least + int(self._random.random() * (most - least + 1))


def words(text: str) -> tuple[str, ...]:
    """What stands between spaces."""
    return tuple(text.split())


def phrases(text: str) -> tuple[str, ...]:
    """What stands between semicolons."""
    return tuple(text.split("; "))


def sentence(text: str) -> str:
    """The text with a capital letter and one space between words; a full stop where it ends in none."""
    joined = " ".join(text.split()).replace(" ,", ",").replace(" ;", ";").replace(" .", ".")
    start = next((place for place, one in enumerate(joined) if one.isalpha()), 0)
    closed = joined if joined.endswith((".", "!", "?", '"', "»")) else joined + "."
    return closed[:start] + closed[start].upper() + closed[start + 1 :]


def invented_names(seed: str, onsets: Sequence[str], vowels: Sequence[str], codas: Sequence[str]) -> tuple[str, ...]:
    """2,400 names of two or three syllables, such as Drellow and Tavomir. Always the same ones: they are vocabulary."""
    dice, names = Dice(seed), dict[str, None]()
    while len(names) < 2_400:
        open_ones = (dice.any_of(onsets) + dice.any_of(vowels) for _ in range(dice.number(1, 2)))
        names["".join(open_ones).capitalize() + dice.any_of(onsets) + dice.any_of(vowels) + dice.any_of(codas)] = None
    return tuple(names)
