"""Sampling: the model goes on with a text, one token at a time, each drawn from its own distribution.

Nothing is done against repetition: a model that repeats itself should be seen to.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from trainer_node.engines.tinylm.model import Cache, TinyTransformer
from trainer_node.engines.tinylm.settings import SamplingSettings

COLDEST = 1e-6  # below, only the likeliest piece is left, and the division overflows


def sample(
    model: TinyTransformer,
    prompt: Sequence[int],
    settings: SamplingSettings,
    *,
    end: int,
    excluded: Sequence[int] = (),
) -> Iterator[int]:
    """Tokens that go on with `prompt`, as they come: at most max_tokens, fewer where the model ends the text itself.

    prompt: token ids; empty: a new text. end: the end-of-text id, which is not given out. excluded: ids that are
    never drawn, such as the unknown piece. The same arguments give the same tokens.
    """
    generator = torch.Generator().manual_seed(settings.seed)
    seq = model.settings.max_seq_length
    seen = list(prompt) or [end]  # what comes after the end of a text is another's beginning
    fresh, cache = seen[-seq:], Cache(model.settings.layers)
    for _ in range(settings.max_tokens):
        if cache.length + len(fresh) > seq:  # no position left: go on from the younger half of what was seen
            fresh, cache = seen[-max(1, seq // 2) :], Cache(model.settings.layers)
        with torch.inference_mode():
            logps_V = model.forward_cached(torch.tensor([fresh]), cache)[0]
            token = draw(logps_V, settings, generator, excluded=excluded)
        if token == end:
            return
        yield token
        seen.append(token)
        fresh = [token]


def draw(
    logps_V: Tensor, settings: SamplingSettings, generator: torch.Generator, *, excluded: Sequence[int] = ()
) -> int:
    """One token out of a distribution, given as log-probabilities; `logps_V` is not changed."""
    if excluded:
        logps_V = logps_V.index_fill(0, torch.tensor(list(excluded)), -torch.inf)
    if settings.temperature < COLDEST:
        return int(logps_V.argmax())
    kept = min(settings.top_k or len(logps_V), len(logps_V))
    logps_K, tokens_K = logps_V.topk(kept)
    probs_K = torch.softmax(logps_K / settings.temperature, dim=-1)
    return int(tokens_K[torch.multinomial(probs_K, 1, generator=generator)])
