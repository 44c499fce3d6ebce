"""Prompts for tunes: what a person might type who wants one, and never more than can be heard."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping

from trainer_node.tunes.world import VALUES, Attributes, Random
from tunesmith.errors import FieldProblem, InvalidField

WORDS: Mapping[str, Mapping[str, tuple[str, ...]]] = {
    "register": {
        "low": ("low", "deep", "bass"),
        "mid": ("mid", "middle", "mid range"),
        "high": ("high", "bright high", "treble"),
    },
    "tempo": {
        "slow": ("slow", "calm", "unhurried"),
        "medium": ("medium", "moderate", "mid tempo"),
        "fast": ("fast", "quick", "lively"),
    },
    "mode": {"major": ("major", "happy", "major key"), "minor": ("minor", "sad", "minor key")},
    "timbre": {
        "sine": ("sine", "pure tone", "flute like"),
        "square": ("square", "square lead", "chiptune"),
        "saw": ("saw", "sawtooth", "buzzy"),
        "pluck": ("pluck", "plucked", "harp like"),
    },
    "pattern": {
        "arpeggio": ("arpeggio", "broken chord"),
        "scale": ("scale", "scale run"),
        "hopping": ("hopping", "jumping"),
    },
}
_NOUNS = {"arpeggio": ("",), "scale": ("",), "hopping": (" melody", " tune")}  # behind the word for the pattern
_ANY_NOUN = ("melody", "tune", "music", "loop")
_FORMS = 4
_MEANINGS = {
    phrase: (name, value) for name, values in WORDS.items() for value, phrases in values.items() for phrase in phrases
}
# the longer first, for `mid tempo` is no register
_PHRASE = re.compile(rf"\b(?:{'|'.join(sorted(_MEANINGS, key=len, reverse=True))})\b")


def plain(attributes: Attributes) -> str:
    """The attributes that are given, in their first words: `fast high major scale, square`."""
    words = {name: WORDS[name][attributes[name]][0] for name in VALUES if name in attributes}
    front = [words[name] for name in ("tempo", "register", "mode") if name in words]
    noun = words["pattern"] + _NOUNS[attributes["pattern"]][0] if "pattern" in words else _ANY_NOUN[0]
    return _arranged(front, noun, words.get("timbre"), form=0)


def write(random: Random, attributes: Attributes, *, leave_out: float = 0.0, say: Collection[str] | None = None) -> str:
    """A prompt in any words and order. leave_out: how probable it is that an attribute is not said; say: these are."""
    said = [name for name in VALUES if name in attributes and _is_said(random, name, leave_out, say)]
    words = {name: _word(random, name, attributes[name]) for name in said}
    if "pattern" in words:
        nouns = _NOUNS[attributes["pattern"]]
        noun = words["pattern"] + nouns[random.integers(len(nouns))]
    else:
        noun = _ANY_NOUN[random.integers(len(_ANY_NOUN))]
    front = [words[name] for name in ("tempo", "register", "mode") if name in words]
    random.shuffle(front)
    return _arranged(front, noun, words.get("timbre"), form=int(random.integers(_FORMS)))


def read(prompt: str) -> dict[str, str]:
    """What a prompt asks for, as far as it says so in words of this world.

    Raises InvalidField where it asks for two values of one attribute.
    """
    said: dict[str, str] = {}
    for phrase in _PHRASE.findall(" ".join(re.split(r"[\s-]+", prompt.lower()))):
        name, value = _MEANINGS[phrase]
        if said.setdefault(name, value) != value:
            what = f"{prompt!r} asks for {said[name]} and for {value}; ask for one {name}"
            raise InvalidField.of([FieldProblem("prompt", what)])
    return said


def vocabulary() -> list[str]:
    """Every word that occurs in a prompt, sorted."""
    phrases = [phrase for values in WORDS.values() for words in values.values() for phrase in words]
    phrases += [noun for nouns in _NOUNS.values() for noun in nouns] + list(_ANY_NOUN)
    return sorted({word for phrase in phrases for word in phrase.split()})


def _is_said(random: Random, name: str, leave_out: float, say: Collection[str] | None) -> bool:
    return name in say if say is not None else bool(random.random() >= leave_out)


def _word(random: Random, name: str, value: str) -> str:
    """The first word half of the time, else any."""
    words = WORDS[name][value]
    return words[0] if random.random() < 0.5 else words[random.integers(len(words))]


def _arranged(front: list[str], noun: str, timbre: str | None, *, form: int) -> str:
    if timbre is None:
        return " ".join([*front, noun])
    match form:
        case 0:
            return " ".join([*front, noun]) + f", {timbre}"
        case 1:
            return " ".join([timbre, *front, noun])
        case 2:
            return " ".join([*front, timbre, noun])
        case _:
            return ", ".join([timbre, *front, noun])
