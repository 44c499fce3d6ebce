"""TinyTransformer computes what is said of it, position by position."""

from __future__ import annotations

import math

import pytest
import torch

from tests.tinylm.tiny import VOCAB, model, tokens
from trainer_node.engines.tinylm.model import Block, Cache
from trainer_node.engines.tinylm.settings import ModelSettings
from tunesmith.errors import InvalidField


def test_attention_is_what_a_hand_computes() -> None:
    block = Block(ModelSettings(vocab_size=9, d_model=4, heads=2, ffn=8))
    x_TD = torch.randn(3, 4, generator=torch.Generator().manual_seed(1))
    query_TD, keys_TD, values_TD = (x_TD @ block.qkv.weight.T + block.qkv.bias).split(4, dim=1)

    expected_TD = torch.zeros(3, 4)
    for position in range(3):
        for head in (slice(0, 2), slice(2, 4)):
            scores = [
                query_TD[position, head].dot(keys_TD[at, head]).item() / math.sqrt(2) for at in range(position + 1)
            ]
            weights = [math.exp(score) / sum(map(math.exp, scores)) for score in scores]
            expected_TD[position, head] = sum(weights[at] * values_TD[at, head] for at in range(position + 1))
    expected_TD = expected_TD @ block.mix.weight.T + block.mix.bias

    assert torch.allclose(block.attend(x_TD[None])[0], expected_TD, atol=1e-6)


def test_attention_equals_pytorchs_own() -> None:
    block = Block(ModelSettings(vocab_size=9, d_model=16, heads=4, ffn=8))
    x_BTD = torch.randn(2, 7, 16, generator=torch.Generator().manual_seed(1))
    query, keys, values = block.qkv(x_BTD).view(2, 7, 3, 4, 4).permute(2, 0, 3, 1, 4)

    seen = torch.nn.functional.scaled_dot_product_attention(query, keys, values, is_causal=True)

    assert torch.allclose(block.attend(x_BTD), block.mix(seen.transpose(1, 2).reshape(2, 7, 16)), atol=1e-6)


@pytest.mark.parametrize("head", ["tree", "plain"])
def test_every_position_gets_a_distribution_over_the_whole_vocabulary(head: str) -> None:
    logps_BTV = model(head=head)(tokens(2, 5))

    assert logps_BTV.shape == (2, 5, VOCAB)
    assert torch.allclose(logps_BTV.exp().sum(-1), torch.ones(2, 5), atol=1e-5)


def test_a_later_token_changes_nothing_before_it() -> None:
    transformer, tokens_BT = model(), tokens(2, 8)
    changed_BT = tokens_BT.clone()
    changed_BT[:, 5] = (changed_BT[:, 5] + 1) % VOCAB

    before, after = transformer(tokens_BT), transformer(changed_BT)

    assert torch.equal(before[:, :5], after[:, :5])
    assert not torch.allclose(before[:, 5:], after[:, 5:])


@pytest.mark.parametrize("pieces", [[1] * 12, [12], [5, 1, 1, 5], [1, 11]])
def test_steps_with_a_cache_equal_the_full_forward(pieces: list[int]) -> None:
    transformer, tokens_BT, cache = model(), tokens(2, 12), Cache(layers=2)
    full_BTV = transformer(tokens_BT)

    seen = 0
    for piece in pieces:
        last_BV = transformer.forward_cached(tokens_BT[:, seen : seen + piece], cache)
        seen += piece

        assert torch.allclose(last_BV, full_BTV[:, seen - 1], atol=1e-5)
    assert cache.length == 12


def test_an_untrained_plain_head_knows_nothing() -> None:
    logps_BTV = model(head="plain")(tokens(4, 16))

    assert -logps_BTV.mean().item() == pytest.approx(math.log(VOCAB), abs=0.02)


def test_the_seed_alone_decides_the_initial_weights() -> None:
    torch.manual_seed(1)
    one = model()
    torch.manual_seed(2)
    other = model()

    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), other.parameters(), strict=True))


def test_settings_that_do_not_fit_are_refused_all_at_once_with_what_does() -> None:
    with pytest.raises(InvalidField) as refused:
        ModelSettings(vocab_size=1, d_model=130, dropout=1.0)

    assert [field.path for field in refused.value.fields] == ["vocab_size", "d_model", "dropout"]
    assert "130 cannot be split into 4 heads; give 128" in refused.value.message
