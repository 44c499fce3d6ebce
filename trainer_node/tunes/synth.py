"""Tunes as sound: band-limited partials under an envelope, note by note. numpy and nothing else."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from trainer_node.tunes.world import FRAME_SAMPLES, FRAMES, RATE_HZ, TEMPI, Tune

Sound = NDArray[np.float64]

_PARTIALS = 9
_ATTACK_S, _RELEASE_S = 0.004, 0.012
_DECAY_S = {"sine": 0.6, "square": 0.6, "saw": 0.6, "pluck": 0.07}
_LOUDNESS = 0.5


def render(tune: Tune) -> NDArray[np.float32]:
    """The tune as [30720] samples in −1..1 at 8 kHz, 3.84 s."""
    length = TEMPI[tune.tempo] * FRAME_SAMPLES
    notes = {note: _note(note, tune.timbre, length) for note in set(tune.notes)}
    sound = np.concatenate([notes[note] for note in tune.notes])
    assert len(sound) == FRAMES * FRAME_SAMPLES
    return (_LOUDNESS * sound).astype(np.float32)


def frequency_of(note: float) -> float:
    """Hz of a MIDI note; 69 is 440 Hz."""
    return float(440.0 * 2 ** ((note - 69) / 12))


def _note(note: int, timbre: str, length: int) -> Sound:
    """[length] samples of one note, from phase 0, silent at both ends."""
    frequency, time = frequency_of(note), np.arange(length) / RATE_HZ
    partials = np.arange(1, min(_PARTIALS, int(0.46 * RATE_HZ / frequency)) + 1, dtype=np.float64)
    amplitudes = _amplitudes(timbre, partials)
    waves = np.sin(2 * np.pi * frequency * partials[:, None] * time)
    rise, fall = time / _ATTACK_S, (length / RATE_HZ - time) / _RELEASE_S
    envelope = np.exp(-time / _DECAY_S[timbre]) * np.minimum(1, rise) * np.minimum(1, fall)
    note_sound: Sound = (amplitudes @ waves) * envelope
    return note_sound


def _amplitudes(timbre: str, partials: Sound) -> Sound:
    """What each partial has, by its number from 1: Fourier's series of the wave forms, a softer one for a string."""
    match timbre:
        case "sine":
            return np.where(partials == 1, 1.0, 0.0)
        case "square":
            return np.where(partials % 2 == 1, 0.9 / partials, 0.0)
        case "saw":
            return 0.75 / partials
        case _:
            return np.asarray(1.0 / partials**1.3)
