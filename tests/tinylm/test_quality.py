"""What a small model must learn in seconds, by the measures that `tests.bench language-quality` takes of a real one."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pytest

from tests.bench import language_quality as quality
from tests.bench.figures import Figure, at_least
from tests.bench.language_quality import Losses, Reader, Written
from tests.bench.text_quality import Languages, repetition_of
from tests.tinylm import pipelines
from trainer_node.engines.tinylm import trained
from trainer_node.engines.tinylm.artefacts import Loaded
from trainer_node.engines.tinylm.model import TinyTransformer
from trainer_node.engines.tinylm.settings import SamplingSettings
from trainer_node.engines.tinylm.synthetic import write_synthetic

SEEDS = (1, 2)
SETTINGS: dict[str, Any] = {
    "tokenizer": {"vocab_size": 1000},
    "model": {"layers": 2, "d_model": 32, "heads": 2, "ffn": 64, "max_seq_length": 32},
    "training": {"epochs": 4, "batch_size": 16, "precision": "fp32", "learning_rate": 5e-3},
    "samples": {"sample_every_epochs": 0, "sample_tokens": 1},
}
LOOP = [5, 6, 7] * 10
STUCK = [5, 6, 7, *[8] * 10]


@dataclass(frozen=True)
class Learned:
    """Of each seed: the losses of its training. Of the first: what its model writes, what one of the same shape writes
    that was not trained, and what was held out."""

    losses: Sequence[Losses]
    texts: Sequence[Written]
    untrained: Sequence[Written]
    held_out: Sequence[Sequence[int]]


@pytest.fixture(scope="module")
def learned(tmp_path_factory: pytest.TempPathFactory) -> Learned:
    """Two trainings on 160 KB of the built-in synthetic text."""
    folder = tmp_path_factory.mktemp("quality")
    write_synthetic(folder / "texts", size_bytes=160_000)
    outputs = [folder / f"seed-{seed}" for seed in SEEDS]
    for seed, output in zip(SEEDS, outputs, strict=True):
        pipelines.run(output, folder / "texts", **{**SETTINGS, "training": {**SETTINGS["training"], "seed": seed}})
    reader, model = Reader(outputs[0]), trained.open_folder(outputs[0])
    untrained = replace(model, loaded=Loaded(TinyTransformer(model.model.settings), {}))
    texts, babble = (
        list(quality.written(one, reader.languages, SamplingSettings(), times=5)) for one in (model, untrained)
    )
    return Learned([quality.losses_of(output) for output in outputs], texts, babble, reader.held_out(model))


def missed(figures: Iterable[Figure]) -> list[str]:
    """Of what the figures are that do not keep their limit."""
    return [figure.what for figure in figures if figure.limit and not figure.limit.kept]


def test_the_training_loss_falls_in_every_epoch(learned: Learned) -> None:
    assert [losses.rises for losses in learned.losses] == [[], []]
    assert all(losses.training[-1] < 0.75 * losses.training[0] for losses in learned.losses)


def test_what_was_held_out_is_told_nearly_as_well_as_what_was_trained_on(learned: Learned) -> None:
    assert all(abs(losses.gap) < quality.GAP for losses in learned.losses)


def test_another_seed_ends_within_5_percent(learned: Learned) -> None:
    ends = [losses.validation for losses in learned.losses]

    assert ends[0] != ends[1]
    assert quality.spread(ends) < quality.SPREAD


def test_the_model_goes_on_in_the_language_of_its_prompt_and_writes_both_without_one(learned: Learned) -> None:
    figures = list(quality.of_languages(learned.texts, {"en": [True], "es": [True]}))

    assert missed(figures) == []
    assert len(figures) == 4


def test_a_model_that_was_not_trained_does_not_go_on_in_the_language_of_its_prompt(learned: Learned) -> None:
    figures = quality.of_languages(learned.untrained, {"en": [True], "es": [True]})

    assert {what for what in missed(figures) if "after a prompt" in what}


def test_a_model_that_writes_one_language_only_is_noticed(learned: Learned) -> None:
    english = [replace(text, language="en") for text in learned.texts]

    figures = quality.of_languages(english, {"en": [True], "es": [True]})

    assert missed(figures) == ["texts in es, without a prompt", "texts that go on in es after a prompt in it"]


def test_the_model_repeats_itself_no_more_than_was_promised(learned: Learned) -> None:
    texts = repetition_of([text.tokens for text in learned.texts])

    figures = list(quality.of_repetition(texts, repetition_of(learned.held_out)))

    assert missed(figures) == []
    assert len(figures) == 3


@pytest.mark.parametrize(("bad", "count"), [(LOOP, 2), (STUCK, 3)], ids=["loop", "stuck"])
def test_a_model_that_writes_the_same_again_and_again_is_noticed(learned: Learned, bad: list[int], count: int) -> None:
    good = [text.tokens for text in learned.texts]

    figures = list(quality.of_repetition(repetition_of([*good, *[bad] * 10]), repetition_of(learned.held_out)))

    assert missed(figures) == [figure.what for figure in figures[:count]]


@pytest.mark.parametrize("end", [5.1, math.nan], ids=["high", "nan"])
def test_losses_that_were_not_promised_are_noticed(end: float) -> None:
    one, other = Losses([5.0, 4.4, end], end + 0.6), Losses([5.0, 4.4, 4.3], 4.5)

    assert one.rises == [3]
    assert len(missed(quality.of_training(1, one))) == 3
    assert len(missed(quality.of_training(2, other))) == 0
    assert len(missed(quality.of_seeds([one, other]))) == 2


def test_the_language_of_a_text_is_that_of_most_of_its_words() -> None:
    languages = Languages({"en": ["The old man, the sea, no"], "es": ["El viejo y el mar, no"]})

    told = [languages.of(text) for text in ("the MAN y", "el viejo, man", "no", "man, mar", "xyz", "")]

    assert told == ["en", "es", "", "", "", ""]


def test_a_figure_stands_beside_what_was_promised() -> None:
    kept, not_kept = (Figure("speed", f"{ratio} ×", limit=at_least(ratio, 3.5, "{:g} ×")) for ratio in (3.8, 3.4))

    assert str(kept).endswith(" 3.8 ×, promised at least 3.5 ×")
    assert str(not_kept).endswith(" 3.4 ×, promised at least 3.5 ×: NOT KEPT")
