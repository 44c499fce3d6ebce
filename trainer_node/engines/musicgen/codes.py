"""Code sequences: MusicGen's delay pattern and the decoder's inputs and targets. Pure tensors.

A clip is codes_KT: K codebooks of T frames; in stereo K counts both channels, interleaved L0 R0 L1 R1 …. The decoder
sees it delayed: codebook k moved right by its level (k // channels), so that one step predicts level 0 of a frame
beside level 1 of the frame before. tests/training hold this beside transformers' own build_delay_pattern_mask.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

IGNORE = -100  # a position without a target; the value that cross_entropy skips


def delay(codes_KT: Tensor, *, channels: int) -> Tensor:
    """Targets labels_KS of a clip, S = T + levels - 1, IGNORE where a codebook has not begun or has ended.

    Every code is a target once, those of the tail included, so each codebook has the same number of targets.
    """
    codebooks, frames = codes_KT.shape
    labels_KS = codes_KT.new_full((codebooks, frames + codebooks // channels - 1), IGNORE, dtype=torch.long)
    for k in range(codebooks):
        level = k // channels
        labels_KS[k, level : level + frames] = codes_KT[k].long()
    return labels_KS


def shift_right(labels: Tensor, *, pad_id: int) -> Tensor:
    """Decoder inputs [..., S] of targets [..., S]: the start token, which is pad_id, first; pad_id for IGNORE."""
    start = labels.new_full((*labels.shape[:-1], 1), pad_id)
    inputs = torch.cat([start, labels[..., :-1]], -1)
    return inputs.masked_fill(inputs == IGNORE, pad_id)


def pad_labels(labels: Sequence[Tensor]) -> Tensor:
    """labels_BKS of clips labels_KS, IGNORE after the end of the shorter ones."""
    longest = max(one.shape[-1] for one in labels)
    return torch.stack([F.pad(one, (0, longest - one.shape[-1]), value=IGNORE) for one in labels])


def pad_states(states: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """text_BLD and mask_BL (1 where a prompt has a token) of prompts text_LD."""
    longest = max(len(one) for one in states)
    text_BLD = torch.stack([F.pad(one, (0, 0, 0, longest - len(one))) for one in states])
    mask_BL = torch.stack([torch.arange(longest) < len(one) for one in states]).long()
    return text_BLD, mask_BL
