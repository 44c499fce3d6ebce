"""TinyTransformer: a small decoder-only language model, from token ids to a distribution over the next token.

Tensor names end in their axes: B sequences, T positions, S positions before them, D d_model, F ffn, H heads, E = D/H
numbers a head, V vocabulary, N = B·T. Where dropout happens, `drop` is called: whoever trains gives one, and without
one the model always answers the same. Weights may be bf16; the embeddings and the log-probabilities are fp32.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from trainer_node.engines.tinylm.heads import Head, make_head
from trainer_node.engines.tinylm.settings import ModelSettings

Drop = Callable[[Tensor], Tensor]
INIT_STD = 0.02  # GPT-2's; untrained, each softmax is all but uniform, so the plain head's loss is ln V


def keep_all(x: Tensor) -> Tensor:
    """No dropout."""
    return x


class Past:
    """Keys and values of the positions that a block has seen; they never change, so no step computes them again."""

    def __init__(self) -> None:
        self.keys_BHSE: Tensor | None = None
        self.values_BHSE: Tensor | None = None

    def extended(self, keys_BHTE: Tensor, values_BHTE: Tensor) -> tuple[Tensor, Tensor]:
        """All keys and values with these behind them."""
        if self.keys_BHSE is not None and self.values_BHSE is not None:
            keys_BHTE = torch.cat([self.keys_BHSE, keys_BHTE], dim=2)
            values_BHTE = torch.cat([self.values_BHSE, values_BHTE], dim=2)
        self.keys_BHSE, self.values_BHSE = keys_BHTE, values_BHTE
        return keys_BHTE, values_BHTE


class Cache:
    """What a model remembers of a sequence: its length, and each block's past."""

    def __init__(self, layers: int) -> None:
        self.length = 0
        self.pasts = [Past() for _ in range(layers)]


class Block(nn.Module):
    """A pre-LN block: every position looks back at those before it, then thinks by itself. Both add to what came in."""

    def __init__(self, settings: ModelSettings) -> None:
        super().__init__()
        d = settings.d_model
        self.heads = settings.heads
        self.ln_attention = nn.LayerNorm(d)
        self.qkv = nn.Linear(d, 3 * d)
        self.mix = nn.Linear(d, d)
        self.ln_ffn = nn.LayerNorm(d)
        self.up = nn.Linear(d, settings.ffn)
        self.down = nn.Linear(settings.ffn, d)

    def forward(self, x_BTD: Tensor, drop: Drop = keep_all, past: Past | None = None) -> Tensor:
        """x_BTD: the residual stream; comes back changed, in the same shape."""
        x_BTD = x_BTD + drop(self.attend(self.ln_attention(x_BTD), past))
        return x_BTD + drop(self.down(F.gelu(self.up(self.ln_ffn(x_BTD)))))  # [B, T, F] between the two

    def attend(self, x_BTD: Tensor, past: Past | None = None) -> Tensor:
        """Causal attention: softmax(QKᵀ/√E + mask)V of each head, then the heads mixed."""
        B, T, D = x_BTD.shape
        H, E = self.heads, D // self.heads
        qkv_3BHTE = self.qkv(x_BTD).view(B, T, 3, H, E).permute(2, 0, 3, 1, 4)
        query_BHTE, keys_BHSE, values_BHSE = qkv_3BHTE.unbind(0)
        if past is not None:
            keys_BHSE, values_BHSE = past.extended(keys_BHSE, values_BHSE)
        S = keys_BHSE.shape[2]  # T, and the positions before where there is a past
        # By hand, for scaled_dot_product_attention's backward in bf16 takes three times as long on a CPU. baddbmm is
        # QKᵀ/√E + mask in one go, where each of them is as large as all the scores.
        query_GTE, keys_GSE = query_BHTE.flatten(0, 1), keys_BHSE.flatten(0, 1)  # G = B·H
        scores_GTS = torch.baddbmm(no_future(T, S, x_BTD.dtype), query_GTE, keys_GSE.transpose(1, 2), alpha=E**-0.5)
        seen_GTE = torch.softmax(scores_GTS, dim=-1) @ values_BHSE.flatten(0, 1)
        out: Tensor = self.mix(seen_GTE.view(B, H, T, E).transpose(1, 2).reshape(B, T, D))
        return out


def no_future(T: int, S: int, dtype: torch.dtype) -> Tensor:
    """The mask added to the scores of T positions over S, the T the last of them: −∞ for what comes later, else 0."""
    return torch.full((T, S), -math.inf, dtype=dtype).triu(S - T + 1)


class TinyTransformer(nn.Module):
    """Embeddings, blocks, a last LayerNorm, and a head that is an exact distribution over the vocabulary.

    seed: of the initial weights. ranks_V: how frequent each token is, 0 the most frequent, for the tree head;
    by default the order of the ids, which is SentencePiece's.
    """

    def __init__(self, settings: ModelSettings, *, seed: int = 0, ranks_V: Tensor | None = None) -> None:
        super().__init__()
        self.settings = settings
        self.tokens = nn.Embedding(settings.vocab_size, settings.d_model)
        self.positions = nn.Embedding(settings.max_seq_length, settings.d_model)
        self.blocks = nn.ModuleList(Block(settings) for _ in range(settings.layers))
        self.ln = nn.LayerNorm(settings.d_model)
        self.head: Head = make_head(settings.head, settings.d_model, settings.vocab_size, ranks_V)
        self._initialise(torch.Generator().manual_seed(seed))

    def _initialise(self, generator: torch.Generator) -> None:
        """Matrices small and random, those that write to the residual stream smaller the more blocks add up in it."""
        writes_to_stream = ("mix.weight", "down.weight")
        for name, parameter in self.named_parameters():
            if parameter.dim() > 1:
                std = INIT_STD / math.sqrt(2 * len(self.blocks)) if name.endswith(writes_to_stream) else INIT_STD
                nn.init.normal_(parameter, 0.0, std, generator=generator)
            elif name.endswith("bias"):
                nn.init.zeros_(parameter)

    def hidden(self, tokens_BT: Tensor, drop: Drop = keep_all, cache: Cache | None = None) -> Tensor:
        """The last hidden state of each position, [B, T, D]: all that the head sees. T: at most max_seq_length.

        cache: of the sequence that the tokens go on; it takes them in.
        """
        begin = cache.length if cache else 0
        T = tokens_BT.shape[1]
        x_BTD = self.tokens(tokens_BT) + self.positions.weight[begin : begin + T]
        x_BTD = drop(x_BTD.to(self.ln.weight.dtype))
        for layer, block in enumerate(self.blocks):
            x_BTD = block(x_BTD, drop, cache.pasts[layer] if cache else None)
        if cache:
            cache.length += T
        out: Tensor = self.ln(x_BTD)
        return out

    def forward(self, tokens_BT: Tensor) -> Tensor:
        """Log-probabilities of the token after each position, [B, T, V], in nats; each position's sum to one."""
        return self.head.log_prob(self.hidden(tokens_BT))

    def forward_cached(self, tokens_BT: Tensor, cache: Cache) -> Tensor:
        """As `forward`, of the last position only, [B, V]: what comes after all that the cache holds and these."""
        return self.head.log_prob(self.hidden(tokens_BT, cache=cache)[:, -1])
