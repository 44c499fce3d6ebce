"""A small synthesiser: six timbres, scales, chords and one short piece made of them. numpy and a seed, nothing else.

Frequencies are in Hz, times in seconds, sound is float64 in −1..1 before `render` scales it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Sound = NDArray[np.float64]
Random = np.random.Generator

KEYS = ("C", "D", "E", "F", "G", "A")
_KEY_NOTES = dict(zip(KEYS, (60, 62, 64, 65, 67, 69), strict=True))  # MIDI
SCALES = {"major": (0, 2, 4, 5, 7, 9, 11), "minor": (0, 2, 3, 5, 7, 8, 10)}
PROGRESSIONS = {"major": (0, 4, 5, 3), "minor": (0, 5, 3, 4)}  # degrees: I V vi IV, i VI iv v
TEMPI = {"slow": 84.0, "moderate": 132.0, "fast": 192.0}  # beats a minute
REGISTERS = {"low": -12, "mid": 0, "high": 12}  # semitones


@dataclass(frozen=True)
class Piece:
    """What to play. The fields but `seed` are what a listener can hear, and what the prompt says."""

    timbre: str
    key: str
    mode: str
    tempo: str
    register: str
    seed: int


def _envelope(count: int, rate_hz: int, *, attack_s: float, decay_s: float) -> Sound:
    """Rises over `attack_s`, then falls by 1/e every `decay_s`, and ends at zero without a click."""
    time = np.arange(count) / rate_hz
    release = np.clip((count / rate_hz - time) / 0.02, 0, 1)
    shape: Sound = np.clip(time / attack_s, 0, 1) * np.exp(-time / decay_s) * release
    return shape


def _partials(frequency: float, count: int, rate_hz: int, amplitudes: dict[float, float]) -> Sound:
    """A sum of sines at multiples of `frequency`; those above the Nyquist rate are left out, so nothing aliases."""
    phase = 2 * np.pi * frequency * np.arange(count) / rate_hz
    sound = np.zeros(count)
    for multiple, amplitude in amplitudes.items():
        if frequency * multiple < 0.45 * rate_hz:
            sound += amplitude * np.sin(multiple * phase)
    return sound


def _sine(frequency: float, count: int, rate_hz: int, _: Random) -> Sound:
    return _partials(frequency, count, rate_hz, {1: 1.0}) * _envelope(count, rate_hz, attack_s=0.03, decay_s=0.8)


def _organ(frequency: float, count: int, rate_hz: int, _: Random) -> Sound:
    drawbars = {0.5: 0.4, 1: 0.8, 2: 0.6, 3: 0.3, 4: 0.3, 6: 0.15, 8: 0.15}
    return _partials(frequency, count, rate_hz, drawbars) * _envelope(count, rate_hz, attack_s=0.02, decay_s=8)


def _square(frequency: float, count: int, rate_hz: int, _: Random) -> Sound:
    odd = {float(n): 1 / n for n in range(1, 26, 2)}
    return _partials(frequency, count, rate_hz, odd) * _envelope(count, rate_hz, attack_s=0.005, decay_s=1.5)


def _bell(frequency: float, count: int, rate_hz: int, _: Random) -> Sound:
    """Frequency modulation at an inharmonic ratio, its index dying away (Chowning 1973)."""
    time = np.arange(count) / rate_hz
    index = 4 * np.exp(-time / 0.25)
    sound: Sound = np.sin(2 * np.pi * frequency * time + index * np.sin(2 * np.pi * frequency * 1.4 * time))
    return sound * _envelope(count, rate_hz, attack_s=0.002, decay_s=0.6)


def _plucked(frequency: float, count: int, rate_hz: int, random: Random) -> Sound:
    """A delay line of noise, averaged each time it goes round (Karplus & Strong 1983), one round at a time."""
    line = random.uniform(-1, 1, max(2, round(rate_hz / frequency)))
    width = 1 + len(line) // 16  # a finger is soft: without this low strings would be the brighter ones
    line = np.convolve(np.concatenate([line, line]), np.ones(width) / width, "same")[: len(line)]
    line /= np.abs(line).max()
    rounds = []
    for _ in range(-(-count // len(line))):
        rounds.append(line)
        line = 0.996 * 0.5 * (line + np.roll(line, 1))
    return np.concatenate(rounds)[:count] * _envelope(count, rate_hz, attack_s=0.001, decay_s=2)


def _bass(frequency: float, count: int, rate_hz: int, _: Random) -> Sound:
    return _partials(frequency / 2, count, rate_hz, {1: 1.0, 2: 0.5, 3: 0.25}) * _envelope(
        count, rate_hz, attack_s=0.005, decay_s=0.3
    )


TIMBRES: dict[str, Callable[[float, int, int, Random], Sound]] = {
    "sine": _sine,
    "plucked": _plucked,
    "organ": _organ,
    "square": _square,
    "bell": _bell,
    "drums": _bass,  # under a drum kit, see `render`
}


def _drums(beats: int, beat_s: float, count: int, rate_hz: int, random: Random) -> Sound:
    """A kick on every beat, a snare on every second, hats between."""
    sound = np.zeros(count)
    for half in range(2 * beats):
        length = int(0.15 * rate_hz)
        time = np.arange(length) / rate_hz
        noise = random.standard_normal(length)
        if half % 2:
            hit = 0.25 * noise * np.exp(-time / 0.015)
        elif half % 4 == 2:
            hit = 0.5 * noise * np.exp(-time / 0.05) + 0.3 * np.sin(2 * np.pi * 190 * time) * np.exp(-time / 0.06)
        else:
            hit = np.sin(2 * np.pi * (50 * time - 4 * np.exp(-time / 0.03))) * np.exp(-time / 0.09)
        _add(sound, hit, int(half * beat_s / 2 * rate_hz))
    return sound


def _add(sound: Sound, part: Sound, at: int) -> None:
    kept = part[: max(0, len(sound) - at)]
    sound[at : at + len(kept)] += kept


def _frequency(piece: Piece, degree: int) -> float:
    octave, step = divmod(degree, 7)
    note = _KEY_NOTES[piece.key] + REGISTERS[piece.register] + 12 * octave + SCALES[piece.mode][step]
    return float(440.0 * 2 ** ((note - 69) / 12))


def render(piece: Piece, *, duration_s: float, rate_hz: int, channels: int) -> NDArray[np.float32]:
    """The piece as [N, channels], peak 0.8: a melody of eighth notes over a chord every second beat.

    Stereo has the melody to the left of the chords, so that the channels differ.
    """
    random = np.random.default_rng(piece.seed)
    play = TIMBRES[piece.timbre]
    count, beat_s = round(duration_s * rate_hz), 60 / TEMPI[piece.tempo]
    beats = int(np.ceil(duration_s / beat_s))
    melody, chords = np.zeros(count), np.zeros(count)
    step = 0
    for beat in range(beats):
        root = PROGRESSIONS[piece.mode][beat // 2 % 4]
        at = int(beat * beat_s * rate_hz)
        if beat % 2 == 0:
            length = int(2 * beat_s * rate_hz)
            for degree in (root - 7, root - 5, root - 3):
                _add(chords, play(_frequency(piece, degree), length, rate_hz, random) / 3, at)
        for half in range(2):
            step = int(np.clip(step + random.integers(-1, 2), -1, 2))
            degree = root + 2 * step if half == 0 else root + 2 * step + int(random.integers(-1, 2))
            note = play(_frequency(piece, degree), int(beat_s * 0.5 * rate_hz), rate_hz, random)
            _add(melody, note, at + int(half * beat_s * 0.5 * rate_hz))
    if piece.timbre == "drums":
        chords += _drums(beats, beat_s, count, rate_hz, random)
    left, right = 0.8 * melody + 0.5 * chords, 0.5 * melody + 0.8 * chords
    sound = np.stack([left, right], axis=1) if channels == 2 else ((left + right) / 2)[:, None]
    fade = np.clip((count - np.arange(count)) / (0.03 * rate_hz), 0, 1)[:, None]
    scaled: NDArray[np.float32] = (0.8 * sound * fade / np.abs(sound * fade).max()).astype(np.float32)
    return scaled
