"""A trained model is tried: on the text that was held out, and by letting it write."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any

import torch
from torch import Tensor

from trainer_node.engines.tinylm import artefacts, evaluation, heads, layout, model, sample, sealed
from trainer_node.engines.tinylm.stages import CODE, Made, code_of
from trainer_node.engines.tinylm.telling import TextSample
from trainer_node.engines.tinylm.trained import Score, loss_of
from trainer_node.engines.tinylm.training_stage import Prepared, sampled_texts

VALIDATION, SAMPLES = "validation", "samples"


def validated(prepared: Prepared) -> Mapping[str, Any]:
    """How well the best model tells the held-out text, all of it and by language."""
    output, text = prepared.plan.output_dir, prepared.tokens.text.validation
    inputs = {
        "model": sealed.sha256_of(output / layout.BEST),
        "tokens": prepared.tokens.digest,
        CODE: code_of(evaluation, model, heads),
    }

    def make() -> Made:
        network = artefacts.load(output / layout.BEST).model
        measured: dict[str, Any] = {}
        ids = torch.from_numpy(text.astype("int64"))
        for language, part in _by_language(prepared, ids):
            if len(part) > 1:
                loss = loss_of(network, part, stop=prepared.stages.stop)
                characters = sum(len(each) + 1 for each in prepared.corpus.paragraphs("validation", language or None))
                measured[language] = Score(loss, len(part), characters).facts()
        whole = measured.pop("", None)
        if whole is None:
            return Made("nothing was held out", (), {"all": None, "languages": {}})
        said = f"{whole['loss']:.4f} nats a token, perplexity {whole['perplexity']:.1f}"
        each = ", ".join(f"{code} {one['loss']:.4f}" for code, one in measured.items())
        return Made(f"{said}; {each}" if each else said, (), {"all": whole, "languages": measured})

    return prepared.stages.settle(VALIDATION, inputs, make, lambda result: result)


def sampled(prepared: Prepared) -> Sequence[TextSample]:
    """What the best model writes."""
    output, plan = prepared.plan.output_dir, prepared.plan
    inputs = {
        "model": sealed.sha256_of(output / layout.BEST),
        "prompts": list(plan.prompts),
        "sampling": asdict(plan.sampling()),
        CODE: code_of(sample, model, heads),
    }

    def make() -> Made:
        loaded = artefacts.load(output / layout.BEST)
        epoch, step = (int(loaded.about[name] or 0) for name in ("epoch", "step"))
        rows = sampled_texts(prepared, loaded.model, epoch=epoch, step=step)
        return Made(f"{len(rows)} texts by the best model", (), {"samples": [asdict(row) for row in rows]})

    return prepared.stages.settle(
        SAMPLES, inputs, make, lambda result: [TextSample(**row) for row in result["samples"]]
    )


def _by_language(prepared: Prepared, ids: Tensor) -> Iterator[tuple[str, Tensor]]:
    """All ids under the name "", then those of each language where there are several."""
    yield "", ids
    counts = prepared.tokens.counts["validation"]
    begin = 0
    for language, count in counts.items():
        if len(counts) > 1:
            yield language, ids[begin : begin + count]
        begin += count
