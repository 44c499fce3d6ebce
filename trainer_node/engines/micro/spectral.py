"""How far a sound is from another, as an ear would say: spectra at three resolutions, and the wave itself."""

from __future__ import annotations

import torch
from torch import Tensor

_RESOLUTIONS = ((128, 48), (320, 100), (768, 240))  # window and hop in samples at 8 kHz
_LOUDEST_NOISE = 1e-2  # what is below counts as silence, or the loss would chase hiss
_EMPHASIS = 0.8
_WAVE_SCALE = 0.06


def reconstruction_loss(made_BN: Tensor, true_BN: Tensor, *, unemphasised: float = 0.0) -> Tensor:
    """Mean distance of two batches of sounds after pre-emphasis, and `unemphasised` times that without.

    Timbre is in the upper partials, which are weak, and pitch in the lowest, which pre-emphasis makes weak.
    """
    emphasised = _distance(_emphasised(made_BN), _emphasised(true_BN))
    if not unemphasised:
        return emphasised
    return unemphasised * _distance(made_BN, true_BN) + emphasised


def _emphasised(sound_BN: Tensor) -> Tensor:
    return sound_BN[:, 1:] - _EMPHASIS * sound_BN[:, :-1]


def _distance(made_BN: Tensor, true_BN: Tensor) -> Tensor:
    """Of the spectra and of the waves."""
    return _spectral_distance(made_BN, true_BN) + (made_BN - true_BN).abs().mean() / _WAVE_SCALE


def _spectral_distance(made_BN: Tensor, true_BN: Tensor) -> Tensor:
    """Log-magnitude distance and spectral convergence (Arik et al. 2019), the mean over the resolutions."""
    distance = torch.zeros(())
    for window, hop in _RESOLUTIONS:
        made, true = (_magnitudes(sound, window, hop) for sound in (made_BN, true_BN))
        logarithmic = ((made + _LOUDEST_NOISE).log() - (true + _LOUDEST_NOISE).log()).abs().mean()
        convergence = (made - true).norm() / (true.norm() + 1e-6)
        distance = distance + 0.5 * logarithmic + 0.5 * convergence
    return distance / len(_RESOLUTIONS)


def _magnitudes(sound_BN: Tensor, window: int, hop: int) -> Tensor:
    spectrum = torch.stft(sound_BN, window, hop, window=torch.hann_window(window), return_complex=True)
    magnitudes: Tensor = spectrum.abs() * 2 / window**0.5
    return magnitudes
