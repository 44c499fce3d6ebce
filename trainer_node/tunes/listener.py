"""A listener: the attributes of a tune, measured from its samples alone. It knows the world's words, not its making.

Notes are found by their onsets, each one's pitch by YIN; the lowest that explains the others is the root, which tells
the register; thirds, sixths and sevenths vote for the mode; the spectrum's first partials and the decay tell the
timbre; the intervals, the pattern. What is unclear is None, not a guess.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from trainer_node.tunes.onsets import onsets_of
from trainer_node.tunes.pitch import pitch_of
from trainer_node.tunes.world import RATE_HZ, VALUES

Sound = NDArray[np.float64]

_SILENCE = 0.01  # root mean square
_FEWEST_NOTES = 3
_SCALES = ((0, 2, 4, 5, 7, 9, 11), (0, 2, 3, 5, 7, 8, 10))
_NOTE_S = {"slow": 0.48, "medium": 0.24, "fast": 0.12}
_FURTHEST_LEAP = 13  # semitones: a tune leaps by an octave at most, and a pitch is not heard quite exactly
_REGISTER_ENDS = (("low", 52.5), ("mid", 64.5), ("high", np.inf))  # MIDI, halfway between the registers' roots


@dataclass(frozen=True)
class Note:
    """One note that was heard. begin_s: in seconds; pitch: MIDI with fraction, None where it is unclear.

    second, third: partials compared with the first; decay: how fast it dies away, in nepers a second.
    """

    begin_s: float
    pitch: float | None
    second: float = 0.0
    third: float = 0.0
    decay: float = 0.0


@dataclass(frozen=True, kw_only=True)
class Heard:
    """What was heard; an attribute is None where it is unclear. in_scale: share of the clear notes in the better of
    both scales on the root."""

    register: str | None = None
    tempo: str | None = None
    mode: str | None = None
    timbre: str | None = None
    pattern: str | None = None
    root: int | None = None
    in_scale: float = 0.0
    notes: tuple[Note, ...] = ()

    @property
    def attributes(self) -> dict[str, str | None]:
        """The five, by name."""
        return {name: getattr(self, name) for name in VALUES}


def listen(wave: NDArray[np.floating], rate_hz: int = RATE_HZ) -> Heard:
    """What can be heard in [N] samples of one channel. Takes 20 to 30 ms."""
    sound = np.asarray(wave, np.float64)
    if not len(sound) or np.sqrt((sound**2).mean()) < _SILENCE:
        return Heard()
    onsets = onsets_of(sound, rate_hz)
    if len(onsets) < _FEWEST_NOTES:
        return Heard()
    notes = _without_undertones(_notes(sound, onsets, rate_hz))
    clear = [note for note in notes if note.pitch is not None]
    tempo = _tempo(float(np.median(np.diff(onsets))))
    if len(clear) < _FEWEST_NOTES:
        return Heard(tempo=tempo, notes=notes)
    pitches = np.array([round(note.pitch) for note in clear if note.pitch is not None])
    root, in_scale = _root(pitches)
    return Heard(
        register=next(name for name, end in _REGISTER_ENDS if root < end),
        tempo=tempo,
        mode=_mode((pitches - root) % 12),
        timbre=_timbre(clear),
        pattern=_pattern(pitches, root),
        root=root,
        in_scale=in_scale,
        notes=notes,
    )


def _notes(sound: Sound, onsets: Sound, rate_hz: int) -> tuple[Note, ...]:
    last = min(len(sound) / rate_hz, onsets[-1] + float(np.median(np.diff(onsets))))
    ends = np.append(onsets[1:], last)
    return tuple(_note(sound, begin, end, rate_hz) for begin, end in zip(onsets, ends, strict=True))


def _without_undertones(notes: tuple[Note, ...]) -> tuple[Note, ...]:
    """A note far below its neighbours (at an end, below the only one) is unclear. Where two sounds overlap, as a codec
    blurs them, the shortest lag at which they both repeat is that of a much lower one, which nobody has played; as the
    lowest note of all, it would be taken for the root."""
    clear = [place for place, note in enumerate(notes) if note.pitch is not None]
    if len(clear) < _FEWEST_NOTES:
        return notes
    pitches = np.array([notes[place].pitch for place in clear], float)
    leaps = np.concatenate([[-np.inf], np.diff(pitches), [np.inf]])  # to each note, and from the last
    undertones = {
        place
        for place, down, up in zip(clear, leaps[:-1], leaps[1:], strict=True)
        if down < -_FURTHEST_LEAP and up > _FURTHEST_LEAP
    }
    return tuple(replace(note, pitch=None) if place in undertones else note for place, note in enumerate(notes))


def _note(sound: Sound, begin_s: float, end_s: float, rate_hz: int) -> Note:
    """One note, from the first eighth of a second of its body: a longer part would hold the next one's beginning."""
    first = max(0, int((begin_s + 0.008) * rate_hz))
    body = sound[first : int(min(end_s - 0.006, begin_s + 0.125) * rate_hz)]
    if len(body) < 0.045 * rate_hz:
        return Note(begin_s, None)
    pitch = pitch_of(body, rate_hz)
    if pitch.clarity <= 0.5:
        return Note(begin_s, None)
    time, window = np.arange(len(body)) / rate_hz, np.hanning(len(body))
    partials = [
        abs((body * window * np.exp(-2j * np.pi * pitch.frequency * number * time)).sum()) for number in (1, 2, 3)
    ]
    half = len(body) // 2
    early, late = (np.sqrt((part**2).mean()) + 1e-6 for part in (body[:half], body[half:]))
    return Note(
        begin_s,
        pitch.note,
        second=float(partials[1] / (partials[0] + 1e-9)),
        third=float(partials[2] / (partials[0] + 1e-9)),
        decay=float(np.log(early / late) / (half / rate_hz)),
    )


def _tempo(between_s: float) -> str | None:
    """The tempo whose notes are about so far apart; None where it is a factor of 1.4 or more from all."""
    distances = {name: abs(np.log(between_s / length_s)) for name, length_s in _NOTE_S.items()}
    nearest = min(distances, key=lambda name: distances[name])
    return nearest if distances[nearest] < 0.35 else None


def _root(pitches: NDArray[np.int64]) -> tuple[int, float]:
    """The root, and the share of notes in a scale on it. The lowest note, unless it was heard once and explains less
    than the lowest of the others: then it was a slip."""
    values, counts = np.unique(pitches, return_counts=True)
    often = values[counts >= (2 if len(pitches) >= 14 else 1)]
    candidates = sorted({int(values.min()), int(often.min() if len(often) else values.min())})
    shares = [max(float(np.isin((pitches - root) % 12, scale).mean()) for scale in _SCALES) for root in candidates]
    best = int(np.argmax(shares))
    return candidates[best], shares[best]


def _mode(steps: NDArray[np.int64]) -> str | None:
    """By the notes that differ between both modes; the third counts half as much again."""
    major = np.isin(steps, (4, 9, 11)).sum() + 0.5 * (steps == 4).sum()
    minor = np.isin(steps, (3, 8, 10)).sum() + 0.5 * (steps == 3).sum()
    return None if major == minor else "major" if major > minor else "minor"


def _timbre(notes: list[Note]) -> str:
    if np.median([note.decay for note in notes]) > 7:
        return "pluck"
    if np.median([note.second for note in notes]) > 0.25:
        return "saw"
    return "square" if np.median([note.third for note in notes]) > 0.15 else "sine"


def _pattern(pitches: NDArray[np.int64], root: int) -> str | None:
    """To the root and away from it: hopping. Mostly steps: a scale. Mostly a chord's notes: an arpeggio."""
    if len(pitches) < 5:
        return None
    leaps = np.abs(np.diff(pitches))
    leaps = leaps[leaps > 0]
    is_root = pitches == root
    if (is_root[1:] != is_root[:-1]).mean() >= 0.8:
        return "hopping"
    if len(leaps) and (leaps <= 2).mean() >= 0.6:
        return "scale"
    return "arpeggio" if np.isin((pitches - root) % 12, (0, 3, 4, 7)).mean() >= 0.8 else None
