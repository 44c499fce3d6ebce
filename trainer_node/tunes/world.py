"""The world of tunes: one voice, 3.84 seconds, five attributes that can be heard, and nothing else that matters.

Two choices make it learnable by a model of a few megabytes: notes begin on the frames of its codec, 25 a second, and
every note begins at phase 0, so that equal notes are equal samples.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

RATE_HZ = 8000
FRAME_SAMPLES = 320  # 25 frames a second
FRAMES = 96
DURATION_S = FRAMES * FRAME_SAMPLES / RATE_HZ

Random = np.random.Generator
Attributes = Mapping[str, str]

REGISTERS = {"low": 45, "mid": 57, "high": 69}  # MIDI note of the lowest root: A2, A3, A4
ROOTS = 4  # a root lies 0 to 3 semitones above that
TEMPI = {"slow": 12, "medium": 6, "fast": 3}  # frames a note: 125, 250 and 500 notes a minute
MODES = {"major": (0, 2, 4, 5, 7, 9, 11, 12), "minor": (0, 2, 3, 5, 7, 8, 10, 12)}  # semitones above the root
TIMBRES = ("sine", "square", "saw", "pluck")
PATTERNS = ("arpeggio", "scale", "hopping")
VALUES: Mapping[str, tuple[str, ...]] = {
    "register": tuple(REGISTERS),
    "tempo": tuple(TEMPI),
    "mode": tuple(MODES),
    "timbre": TIMBRES,
    "pattern": PATTERNS,
}

_ARPEGGIOS: tuple[tuple[int, ...], ...] = ((0, 2, 4, 7), (7, 4, 2, 0), (0, 2, 4, 7, 4, 2))  # degrees
_UP = tuple(range(8))
_SCALES: tuple[tuple[int, ...], ...] = (_UP, _UP[::-1], _UP + _UP[-2:0:-1])
_HELD_OUT_SEED, _HELD_OUT_SHARE = 12345, 12


@dataclass(frozen=True, kw_only=True)
class Tune:
    """A tune: its attributes, and its notes (MIDI, all equally long), of which `root` is the lowest of its scale."""

    register: str
    tempo: str
    mode: str
    timbre: str
    pattern: str
    root: int
    notes: tuple[int, ...]

    @property
    def attributes(self) -> dict[str, str]:
        """What can be heard of it."""
        return {name: getattr(self, name) for name in VALUES}


def draw(random: Random, wanted: Attributes | None = None) -> Tune:
    """A tune at random; attributes that are wanted are as wanted. Raises KeyError for a value that there is not."""
    wanted = wanted or {}
    chosen = {name: wanted.get(name) or values[random.integers(len(values))] for name, values in VALUES.items()}
    root = REGISTERS[chosen["register"]] + int(random.integers(ROOTS))
    scale = MODES[chosen["mode"]]
    degrees = _degrees(random, chosen["pattern"], FRAMES // TEMPI[chosen["tempo"]])
    return Tune(**chosen, root=root, notes=tuple(root + scale[degree] for degree in degrees))


def combinations() -> list[dict[str, str]]:
    """Every combination of attributes, 216 in all."""
    return [dict(zip(VALUES, values, strict=True)) for values in itertools.product(*VALUES.values())]


def held_out() -> list[dict[str, str]]:
    """The combinations, 18 of them, that the base model is never shown: what it makes of them, it has put together."""
    every = combinations()
    chosen = np.random.default_rng(_HELD_OUT_SEED).permutation(len(every))[: len(every) // _HELD_OUT_SHARE]
    return [every[place] for place in sorted(chosen)]


def _degrees(random: Random, pattern: str, count: int) -> list[int]:
    if pattern == "arpeggio":
        cycle = _ARPEGGIOS[random.integers(len(_ARPEGGIOS))]
        return [cycle[place % len(cycle)] for place in range(count)]
    if pattern == "scale":
        cycle = _SCALES[random.integers(len(_SCALES))]
        # a slow tune has just the eight notes of a scale: it begins at its beginning, or it would be no scale
        begin = 0 if count <= len(_UP) else int(random.integers(len(cycle)))
        return [cycle[(place + begin) % len(cycle)] for place in range(count)]
    others = random.integers(1, len(_UP), size=count)
    others[1::4] = 2  # the third comes back often enough to hear the mode
    return [int(others[place]) if place % 2 else 0 for place in range(count)]
