"""Sampling follows the model's distribution and its settings, ends where the model does, and stays small and quick."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from itertools import starmap
from pathlib import Path

import pytest
import torch
from torch import Tensor

from tests.tinylm.tiny import END, VOCAB, counting, model, tokens, train
from trainer_node.engines.tinylm import artefacts
from trainer_node.engines.tinylm.evaluation import mean_loss
from trainer_node.engines.tinylm.model import TinyTransformer
from trainer_node.engines.tinylm.ports import Text
from trainer_node.engines.tinylm.sample import draw, sample
from trainer_node.engines.tinylm.settings import ModelSettings, SamplingSettings
from trainer_node.errors import DataInvalid
from tunesmith.errors import InvalidField

GREEDY = SamplingSettings(temperature=0, max_tokens=40)
ROOT = Path(__file__).resolve().parents[2]
MAX_RESIDENT_MB, MAX_PEAK_MB, MAX_P95_MS = 400, 512, 250


@pytest.fixture(scope="module")
def counter(tmp_path_factory: pytest.TempPathFactory) -> TinyTransformer:
    """A model that has learned to count by seven, modulo 20, and comes by END = 2 once in a round of twenty."""
    text = Text(training=counting(16 * 4 * 6 + 16, below=20), validation=counting(20, below=20))
    return train(tmp_path_factory.mktemp("counter"), text=text, epochs=40).model


def test_the_most_likely_text_goes_on_as_the_model_learned(counter: TinyTransformer) -> None:
    expected = [(3 + 7 * n) % 20 for n in range(1, 17)]

    assert list(sample(counter, [9, 16, 3], SamplingSettings(temperature=0, max_tokens=16), end=VOCAB - 1)) == expected


def test_a_text_ends_where_the_model_ends_it(counter: TinyTransformer) -> None:
    assert list(sample(counter, [1, 8], GREEDY, end=END)) == [15]  # 15 is followed by 22 modulo 20, which is END


def test_a_text_longer_than_the_models_memory_goes_on(counter: TinyTransformer) -> None:
    long = list(sample(counter, list(range(40)), GREEDY, end=VOCAB - 1))

    assert len(long) == 40
    assert long[20:] == [(long[19] + 7 * n) % 20 for n in range(1, 21)]


def test_until_memory_is_full_every_token_is_the_one_that_the_full_forward_finds_likeliest() -> None:
    transformer, prompt = model(), tokens(4).tolist()

    sampled = list(sample(transformer, prompt, SamplingSettings(temperature=0, max_tokens=12), end=-1))

    for count in range(12):
        seen_BT = torch.tensor([[*prompt, *sampled[:count]]])
        assert sampled[count] == int(transformer(seen_BT)[0, -1].argmax())


def test_the_seed_decides_the_text() -> None:
    transformer = model()

    one, again, other = (
        list(sample(transformer, [5], SamplingSettings(seed=seed, max_tokens=12), end=-1)) for seed in (1, 1, 2)
    )

    assert one == again != other


def test_an_empty_prompt_begins_a_text() -> None:
    transformer = model()

    assert list(sample(transformer, [], GREEDY, end=END)) == list(sample(transformer, [END], GREEDY, end=END))


def test_no_tokens_are_sampled_where_none_are_wanted() -> None:
    assert list(sample(model(), [5], SamplingSettings(max_tokens=0), end=END)) == []


def drawn(logps_V: Tensor, settings: SamplingSettings, *, times: int = 4000, excluded: tuple[int, ...] = ()) -> Tensor:
    """How often each token was drawn, as a share."""
    generator = torch.Generator().manual_seed(0)
    found = torch.tensor([draw(logps_V, settings, generator, excluded=excluded) for _ in range(times)])
    return torch.bincount(found, minlength=len(logps_V)) / times


LOGPS = torch.tensor([0.1, 0.4, 0.3, 0.2]).log()


def test_tokens_are_drawn_as_often_as_they_are_likely() -> None:
    shares = drawn(LOGPS, SamplingSettings(temperature=1.0, top_k=0))

    assert torch.allclose(shares, LOGPS.exp(), atol=0.03)


def test_temperature_sharpens_the_distribution() -> None:
    shares = drawn(LOGPS, SamplingSettings(temperature=0.5, top_k=0))

    assert torch.allclose(shares, LOGPS.exp() ** 2 / (LOGPS.exp() ** 2).sum(), atol=0.03)


def test_top_k_keeps_the_likeliest_only() -> None:
    shares = drawn(LOGPS, SamplingSettings(temperature=1.0, top_k=2))

    assert torch.allclose(shares, torch.tensor([0, 4 / 7, 3 / 7, 0]), atol=0.03)


def test_a_token_that_must_not_come_does_not() -> None:
    shares = drawn(LOGPS, SamplingSettings(temperature=1.0, top_k=0), excluded=(1, 3))

    assert torch.allclose(shares, torch.tensor([0.25, 0, 0.75, 0]), atol=0.03)


@pytest.mark.parametrize("temperature", [-1, 10.5, math.nan, math.inf, -math.inf, 1e308])
def test_settings_without_a_meaning_are_refused(temperature: float) -> None:
    with pytest.raises(InvalidField) as refused:
        SamplingSettings(temperature=temperature, top_k=-1, seed=10**23)

    assert [field.path for field in refused.value.fields] == ["temperature", "top_k", "seed"]


def test_a_temperature_near_nothing_takes_the_likeliest() -> None:
    shares = drawn(LOGPS, SamplingSettings(temperature=1e-320, top_k=0), times=10)

    assert shares.tolist() == [0, 1, 0, 0]


def test_the_loss_of_a_text_is_the_mean_over_all_its_tokens_but_the_first() -> None:
    transformer, text = model(), tokens(16 * 2 + 5)
    parts = [(text[:16], text[1:17]), (text[16:32], text[17:33]), (text[32:-1], text[33:])]

    by_hand = sum(-transformer(a[None])[0].gather(1, b[:, None]).sum().item() for a, b in parts) / (len(text) - 1)

    assert mean_loss(transformer, text) == pytest.approx(by_hand, rel=1e-5)
    assert mean_loss(transformer, text, run_each=lambda work, some: list(starmap(work, some))) == pytest.approx(by_hand)


def test_a_text_without_a_second_token_has_no_loss() -> None:
    with pytest.raises(DataInvalid, match="the text has 1 tokens, and a loss needs two; give a longer text"):
        mean_loss(model(), tokens(1))


def test_sampling_in_a_process_of_its_own_takes_little_memory_and_time_and_no_network(tmp_path: Path) -> None:
    shape = ModelSettings(vocab_size=8000)
    path = artefacts.save(tmp_path / "model.pt", TinyTransformer(shape).state_dict(), shape, {})
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([".", "proto"])}

    done = subprocess.run(
        [sys.executable, "-m", "tests.bench.sampling", str(path)],
        capture_output=True,
        text=True,
        check=True,
        env=environment,
        cwd=ROOT,
    )

    used = json.loads(done.stdout)
    assert used["sampled"] == 300
    assert used["heavy"] == []
    assert used["resident_mb"] <= MAX_RESIDENT_MB
    assert used["peak_mb"] <= MAX_PEAK_MB
    assert used["p95_ms"] <= MAX_P95_MS
    assert used["network"] == []
