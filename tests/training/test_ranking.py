"""The ranking method: lists of any lengths as one batch, scored beside their reference, each list weighing the same."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
import torch
import torch.nn.functional as F

from tests.training.preference_studio import spec
from trainer_node.engines.musicgen import codes, ranking_losses
from trainer_node.engines.musicgen.examples import Example
from trainer_node.engines.musicgen.family import BaseModel, Clip
from trainer_node.engines.musicgen.ranking import METRICS, Ranking

RANKS = ((1, 2), (1, 1, 2, 3), (1, 2, 2))


def examples(base: BaseModel, *, reference: bool = True) -> list[Example]:
    """Three lists of different lengths, of clips of different lengths."""
    drawn = torch.Generator().manual_seed(3)
    codebooks = base.model.config.decoder.num_codebooks
    made = []
    for n, ranks in enumerate(RANKS):
        text_LD = base.encode_text("low sine drone" + " slow" * n)
        lengths = torch.randint(5, 20, (len(ranks),), generator=drawn).tolist()
        clips = tuple(
            Clip(torch.randint(0, 64, (codebooks, length), generator=drawn).to(torch.int16), text_LD)
            for length in lengths
        )
        likely = tuple(-5.0 * clip.codes_KT.numel() - 3 * place for place, clip in enumerate(clips))
        made.append(Example(clips, ranks, likely if reference else ()))
    return made


def method(base: BaseModel, **settings: Any) -> Ranking:
    return Ranking(spec("ranking", **settings).ranking, channels=base.channels)


def mean_logp(base: BaseModel, clip: Clip) -> float:
    """A clip's mean log-probability a token, one codebook after the other, from the model's plain logits."""
    labels_KS = codes.delay(clip.codes_KT, channels=base.channels)
    with torch.no_grad():
        logits_KSV = base.model(
            encoder_outputs=(clip.text_LD[None],),
            attention_mask=torch.ones(1, len(clip.text_LD)),
            decoder_input_ids=codes.shift_right(labels_KS, pad_id=base.model.config.decoder.pad_token_id),
        ).logits
    said = [
        F.log_softmax(logits_SV.double(), -1)[labels_S != codes.IGNORE, labels_S[labels_S != codes.IGNORE]]
        for logits_SV, labels_S in zip(logits_KSV, labels_KS, strict=True)
    ]
    return float(torch.cat(said).mean())


@pytest.fixture(params=["mono", "stereo"])
def either(request: pytest.FixtureRequest, base: BaseModel, stereo_base: BaseModel) -> BaseModel:
    return base if request.param == "mono" else stereo_base


@pytest.mark.parametrize("loss", ["RANKING_LOSS_MARGIN", "RANKING_LOSS_PLACKETT_LUCE"])
@pytest.mark.parametrize("relative", [True, False], ids=["relative", "absolute"])
def test_a_score_is_the_mean_log_probability_a_token_less_the_references(
    either: BaseModel, loss: str, relative: bool
) -> None:
    own = {"margin": 0.7} if loss == "RANKING_LOSS_MARGIN" else {"temperature": 0.4}
    ranking = method(either, loss=loss, **own)
    lists = examples(either, reference=relative)

    with torch.no_grad():
        told = ranking.evaluate(either.model, ranking.collate(lists))

    for n, example in enumerate(lists):
        scores = [mean_logp(either, clip) for clip in example.clips]
        if relative:
            tokens = [clip.codes_KT.numel() for clip in example.clips]
            scores = [score - ref / many for score, ref, many in zip(scores, example.reference, tokens, strict=True)]
        placed = torch.tensor([scores]), torch.tensor([example.ranks])
        expected = (
            ranking_losses.margin(*placed, wished=0.7)
            if loss == "RANKING_LOSS_MARGIN"
            else ranking_losses.plackett_luce(*placed, temperature=0.4)
        )
        assert float(told["loss"][n]) == pytest.approx(float(expected), rel=1e-5, abs=1e-6)
        for name, values in ranking_losses.agreement(*placed).items():
            assert float(told[name][n]) == pytest.approx(float(values), rel=1e-5, abs=1e-6)
    assert set(told) == {"loss", *METRICS}


def test_lists_in_one_batch_are_the_lists_one_by_one(either: BaseModel) -> None:
    ranking = method(either, loss="RANKING_LOSS_PLACKETT_LUCE", sft_weight=0.5)
    lists = examples(either)

    with torch.no_grad():
        together = ranking.evaluate(either.model, ranking.collate(lists))
        alone = [ranking.evaluate(either.model, ranking.collate([example])) for example in lists]
        mean, _ = ranking.loss(either.model, ranking.collate(lists), None)

    for name, values in together.items():
        torch.testing.assert_close(values, torch.cat([one[name] for one in alone]), rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(mean, together["loss"].mean().float())


@pytest.mark.parametrize("loss", ["RANKING_LOSS_MARGIN", "RANKING_LOSS_PLACKETT_LUCE"])
@pytest.mark.parametrize("parts", [[[0], [1, 2]], [[0, 1], [2]], [[0], [1], [2]]], ids=str)
def test_gradients_of_uneven_parts_add_up_to_those_of_the_whole(
    base: BaseModel, loss: str, parts: Sequence[Sequence[int]]
) -> None:
    own = {"margin": 5.0} if loss == "RANKING_LOSS_MARGIN" else {}
    ranking = method(base, loss=loss, sft_weight=0.3, **own)
    lists = examples(base)
    trained = base.model.decoder.requires_grad_(True)

    def gradients(batches: Sequence[Sequence[Example]]) -> list[torch.Tensor]:
        base.model.zero_grad()
        collated = [ranking.collate(batch) for batch in batches]
        whole = torch.stack([ranking.targets(batch) for batch in collated]).sum()
        for batch in collated:
            torch.autograd.backward(ranking.loss(base.model, batch, whole)[0])
        return [part.grad.clone() for part in trained.parameters() if part.grad is not None]

    at_once = gradients([lists])
    in_parts = gradients([[lists[i] for i in part] for part in parts])

    assert any(bool(gradient.any()) for gradient in at_once)
    for one, other in zip(at_once, in_parts, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-6)


def test_the_supervised_term_is_that_of_the_best_clips_of_each_list(base: BaseModel) -> None:
    lists = examples(base)
    batch = method(base).collate(lists)

    with torch.no_grad():
        without = method(base).evaluate(base.model, batch)["loss"]
        with_it = method(base, sft_weight=0.25).evaluate(base.model, batch)["loss"]

    for n, example in enumerate(lists):
        best = [-mean_logp(base, clip) for clip, rank in zip(example.clips, example.ranks, strict=True) if rank == 1]
        assert float(with_it[n] - without[n]) == pytest.approx(0.25 * sum(best) / len(best), rel=1e-5)


def test_a_batch_says_how_many_lists_it_has(base: BaseModel) -> None:
    batch = method(base).collate(examples(base))

    assert int(method(base).targets(batch)) == 3
    assert batch["labels_BKS"].shape[0] == sum(len(ranks) for ranks in RANKS)
    assert batch["ranks_NL"].tolist() == [[1, 2, 0, 0], [1, 1, 2, 3], [1, 2, 2, 0]]
