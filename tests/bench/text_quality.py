"""Whether a text is one: in which language it is written, and how much it repeats itself. Counted, not judged."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby

N = 4  # tokens that make a repetition: shorter groups, such as «, and the», come again in every text
_WORD = re.compile(r"[^\W\d_]+")


class Languages:
    """Tells the language of a text by the words of texts whose language is known."""

    def __init__(self, known: Mapping[str, Iterable[str]]) -> None:
        """known: paragraphs of each language."""
        counts = {code: Counter(word for text in texts for word in words(text)) for code, texts in known.items()}
        self._shares = {code: {word: n / count.total() for word, n in count.items()} for code, count in counts.items()}

    def of(self, text: str) -> str:
        """The language in which most of the text's words occur more often; empty where no one language has most.

        Words that occur nowhere, or as often in two languages, say nothing.
        """
        return _only_first(Counter(filter(None, map(self._of_word, words(text)))))

    def _of_word(self, word: str) -> str:
        return _only_first({code: shares[word] for code, shares in self._shares.items() if word in shares})


@dataclass(frozen=True)
class Repetition:
    """How much texts repeat themselves.

    share: of all groups of N tokens, those that were there before in the same text. most: that share in the worst text.
    run: how often one token comes after itself at most; 1 where none does.
    """

    share: float
    most: float
    run: int


def repetition_of(texts: Sequence[Sequence[int]]) -> Repetition:
    """Of texts in tokens. Compare texts of about the same length: a longer one repeats more."""
    groups = sum(len(groups_of(text)) for text in texts)
    again = sum(len(groups_of(text)) - len(set(groups_of(text))) for text in texts)
    return Repetition(
        share=again / groups if groups else 0.0,
        most=max(map(repeated, texts), default=0.0),
        run=max(map(longest_run, texts), default=0),
    )


def repeated(text: Sequence[int]) -> float:
    """The share of groups of N tokens that were there before: 0 where each is new, nearly 1 in a loop."""
    groups = groups_of(text)
    return 1 - len(set(groups)) / len(groups) if groups else 0.0


def longest_run(text: Sequence[int]) -> int:
    """How often one token comes after itself at most: 1 where none does, 0 where there is none."""
    return max((sum(1 for _ in run) for _, run in groupby(text)), default=0)


def groups_of(text: Sequence[int]) -> list[tuple[int, ...]]:
    """All N tokens in a row."""
    return [tuple(text[place : place + N]) for place in range(len(text) - N + 1)]


def words(text: str) -> list[str]:
    """Its words, in small letters."""
    return _WORD.findall(text.lower())


def _only_first(counted: Mapping[str, float]) -> str:
    """The name with the greatest count; empty where there is none, or more than one."""
    names = [name for name, count in counted.items() if count == max(counted.values())]
    return names[0] if len(names) == 1 else ""
