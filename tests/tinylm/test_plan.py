"""A plan reads the contract's settings into those of the parts."""

from __future__ import annotations

import functools
from pathlib import Path

import pytest
from google.protobuf import json_format

from trainer_node.engines.tinylm.plan import Plan
from trainer_node.engines.tinylm.settings import ModelSettings, PretrainSettings, SamplingSettings
from tunesmith import spec as specs
from tunesmith.v1 import job_spec_pb2, trainer_pb2

DEFAULTS = specs.resolve(job_spec_pb2.JobSpec(tiny_lm={}))
# What the stages take from the contract themselves.
READ_BY_STAGES = {
    *("tokenizer.vocab_size", "tokenizer.byte_fallback", "validation.validation_fraction"),
    "checkpoints.keep_checkpoints",
}
OTHERWISE = {  # values of those that are no numbers
    "corpus.corpus_source": "CORPUS_SOURCE_SYNTHETIC",
    "model.head": "LM_HEAD_PLAIN",
    "training.precision": "PRECISION_FP32",
    "samples.sample_prompts": ["Once"],
}


def plan_of(wanted: job_spec_pb2.JobSpec) -> Plan:
    return Plan(job=trainer_pb2.Job(spec=wanted), output_dir=Path("model"), cache_dir=Path("cache"))


def parts(plan: Plan) -> tuple[object, ...]:
    """All that a plan tells the parts."""
    return plan.shape(8_000), plan.pretraining(), plan.sampling(), plan.prompts, plan.source


def test_the_defaults_of_the_parts_are_those_of_the_contract() -> None:
    plan = plan_of(DEFAULTS)

    assert plan.shape(plan.lm.tokenizer.vocab_size) == ModelSettings(vocab_size=8_000)
    assert plan.pretraining() == PretrainSettings()
    assert plan.sampling() == SamplingSettings(seed=PretrainSettings().seed)


@pytest.mark.parametrize("path", sorted(set(specs.in_force(DEFAULTS.tiny_lm)) - READ_BY_STAGES))
def test_every_setting_of_the_contract_reaches_a_part(path: str) -> None:
    changed = job_spec_pb2.JobSpec()
    changed.CopyFrom(DEFAULTS)
    *groups, name = path.split(".")
    holder = functools.reduce(getattr, groups, changed.tiny_lm)
    if path in OTHERWISE:
        json_format.ParseDict({name: OTHERWISE[path]}, holder)
    else:
        setattr(holder, name, getattr(holder, name) * 2 or 1)

    assert parts(plan_of(changed)) != parts(plan_of(DEFAULTS))


def test_a_network_is_about_as_large_as_its_plan_says() -> None:
    from trainer_node.engines.tinylm.model import TinyTransformer
    from trainer_node.engines.tinylm.plan import parameters_of

    for head in ("tree", "plain"):
        shape = ModelSettings(vocab_size=8_000, head=head)
        real = sum(parameter.numel() for parameter in TinyTransformer(shape).parameters())

        assert real <= parameters_of(shape) <= 1.05 * real
