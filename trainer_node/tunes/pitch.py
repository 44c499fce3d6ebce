"""The pitch of one note, by YIN (de Cheveigné & Kawahara 2002): the shortest lag at which the sound repeats itself."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Sound = NDArray[np.float64]

LOWEST_HZ, HIGHEST_HZ = 90.0, 1300.0
_FINER = 4  # lags between the samples: at 1 kHz one of 8 kHz is more than a semitone
_REPEATS = 0.15  # below this the difference counts as none


@dataclass(frozen=True)
class Pitch:
    """frequency in Hz; clarity: 1 where the sound repeats itself exactly, 0 for noise."""

    frequency: float
    clarity: float

    @property
    def note(self) -> float:
        """MIDI note, with fraction."""
        return float(69 + 12 * np.log2(self.frequency / 440))


def pitch_of(sound: Sound, rate_hz: int) -> Pitch:
    """The pitch of [N] samples, at least two periods long, between 90 and 1,300 Hz."""
    fine, fine_hz = _upsampled(sound), rate_hz * _FINER
    difference = _difference(fine, longest=int(fine_hz / LOWEST_HZ))
    shortest = int(fine_hz / HIGHEST_HZ)
    lag = _first_dip(difference, shortest)
    frequency = fine_hz / (lag + _between(difference, lag))
    return Pitch(frequency, float(np.clip(1 - difference[lag], 0, 1)))


def _upsampled(sound: Sound) -> Sound:
    """The same sound at four times the rate, band-limited."""
    count = len(sound)
    spectrum = np.zeros(count * _FINER // 2 + 1, complex)
    half = np.fft.rfft(sound)
    spectrum[: len(half)] = half
    return np.asarray(np.fft.irfft(spectrum, count * _FINER) * _FINER)


def _difference(sound: Sound, *, longest: int) -> Sound:
    """YIN's cumulative mean normalised difference for the lags 0 to `longest`: 1 at lag 0, 0 for a perfect repeat."""
    window = len(sound) // 2
    longest = min(longest, len(sound) - window - 1)
    energy = np.concatenate([[0.0], np.cumsum(sound**2)])
    lags = np.arange(longest + 1)
    size = 2 * len(sound)
    spectrum = np.fft.rfft(sound[:window][::-1], size) * np.fft.rfft(sound, size)
    products = np.fft.irfft(spectrum, size)[window - 1 : window + longest]
    raw = energy[window] + (energy[window + lags] - energy[lags]) - 2 * products
    normalised = np.ones(longest + 1)
    normalised[1:] = raw[1:] * lags[1:] / np.maximum(np.cumsum(raw[1:]), 1e-9)
    return normalised


def _first_dip(difference: Sound, shortest: int) -> int:
    """The first lag, from `shortest` on, that is about as good as the best: a later one would be an octave too low."""
    best = shortest + int(np.argmin(difference[shortest:]))
    good = np.flatnonzero(difference[shortest:] < max(_REPEATS, 1.3 * difference[best] + 0.02))
    if not len(good):
        return best
    lag = shortest + int(good[0])
    while lag + 1 < len(difference) and difference[lag + 1] < difference[lag]:
        lag += 1
    return lag


def _between(difference: Sound, lag: int) -> float:
    """How far the lowest point of the parabola through three neighbours lies beside the middle one, −0.5 to 0.5."""
    if not 1 <= lag < len(difference) - 1:
        return 0.0
    before, here, after = difference[lag - 1 : lag + 2]
    bend = before - 2 * here + after
    return float(np.clip(0.5 * (before - after) / bend, -0.5, 0.5)) if bend > 1e-12 else 0.0
