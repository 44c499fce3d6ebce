"""Where notes begin: peaks of the spectral change (spectral flux), less those that change neither pitch nor level."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from trainer_node.tunes.pitch import pitch_of

Sound = NDArray[np.float64]

_HOPS_A_SECOND, _WINDOWS_A_SECOND = 200, 50
_FLOOR = 0.08  # of the loudest bin, −22 dB: what a codec adds as noise must not count
_THRESHOLD = 0.25  # of a strong change, the 97th percentile
_APART = 12  # hops, 60 ms: the shortest note has 120
_SAME_NOTE, _NO_DIP = 0.4, 0.6  # semitones; loudness right before, compared with a little earlier


def onsets_of(sound: Sound, rate_hz: int) -> Sound:
    """The beginnings of the notes of [N] samples, in seconds, ascending."""
    found = _changes(sound, rate_hz)
    found = found[found < len(sound) / rate_hz - 0.05]
    return _without_repeats(sound, found, rate_hz) if len(found) > 1 else found


def _changes(sound: Sound, rate_hz: int) -> Sound:
    hop, window = rate_hz // _HOPS_A_SECOND, rate_hz // _WINDOWS_A_SECOND
    frames = np.lib.stride_tricks.sliding_window_view(np.pad(sound, (window, window)), window)[::hop]
    magnitudes = np.abs(np.fft.rfft(frames * np.hanning(window), 512))
    levels = np.log(magnitudes + _FLOOR * magnitudes.max() + 1e-9)
    flux = np.maximum(0, levels[4:] - levels[:-4]).sum(axis=1)  # over 20 ms
    flux = np.convolve(flux, np.ones(3) / 3, "same")
    if flux.max() < 1e-6:
        return np.zeros(0)
    threshold = _THRESHOLD * np.percentile(flux, 97)
    peaks: list[int] = []
    for place in range(1, len(flux) - 1):
        near = flux[max(0, place - _APART) : place + _APART + 1]
        is_peak = flux[place] >= threshold and flux[place] == near.max()
        if is_peak and (not peaks or place - peaks[-1] > _APART):
            peaks.append(place)
    # a change over four hops lies in their middle; a frame stands for its own middle; the padding is taken off again
    return (np.array(peaks, float) + 2) * hop / rate_hz - window / rate_hz / 2


def _without_repeats(sound: Sound, found: Sound, rate_hz: int) -> Sound:
    """Without the onsets at which the pitch stays the same and the sound does not dip before: there is no new note."""
    kept: list[float] = []
    last: float | None = None
    for begin, end in zip(found, np.append(found[1:], len(sound) / rate_hz), strict=True):
        body = sound[int((begin + 0.008) * rate_hz) : int(min(end - 0.004, begin + 0.125) * rate_hz)]
        pitch = pitch_of(body, rate_hz) if len(body) >= 0.03 * rate_hz else None
        note = pitch.note if pitch is not None and pitch.clarity > 0.4 else None
        same = note is not None and last is not None and abs(note - last) < _SAME_NOTE
        if kept and same and _dip(sound, begin, rate_hz) > _NO_DIP:
            continue
        kept.append(float(begin))
        last = note if note is not None else last
    return np.array(kept)


def _dip(sound: Sound, begin: float, rate_hz: int) -> float:
    """Loudness right before an onset, compared with 20 to 50 ms before: about 1 inside a note, near 0 between two."""
    if begin <= 0.05:
        return 0.0

    def loudness(from_s: float, to_s: float) -> float:
        part = sound[max(0, int((begin + from_s) * rate_hz)) : int((begin + to_s) * rate_hz)]
        return float(np.sqrt((part**2).mean() + 1e-9))

    return min(loudness(-0.012, -0.002), loudness(-0.006, 0.004)) / (loudness(-0.05, -0.02) + 1e-6)
