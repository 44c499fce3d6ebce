"""How a JobSpec is read: the two forms of a file, and what is told about a wrong one."""

from __future__ import annotations

import pytest

from tunesmith import spec
from tunesmith.errors import InvalidField
from tunesmith.setting_words import default_words
from tunesmith.v1 import job_spec_pb2


def read(text: str) -> job_spec_pb2.JobSpec:
    return spec.parse(spec.read_yaml(text, where="run.yaml"), job_spec_pb2.JobSpec())


@pytest.mark.parametrize(
    ("training_type", "kind"),
    [("supervised", "supervised"), ("preference", "dpo"), ("ranking", "ranking")],
)
def test_a_training_type_with_settings_beside_it_is_its_kind_with_the_settings_below_it(training_type, kind):
    settings = "training: {epochs: 3}, adapter: {base_model: tiny}"

    flat = read(f"{{training_type: {training_type}, {settings}}}")

    assert flat == read(f"{kind}: {{{settings}}}")
    assert spec.kind_of(flat) == kind


def test_clips_are_asked_for_in_either_form():
    settings = "player: {base_model: tiny}, generation: {prompts: [a song], clips_per_prompt: 4}"

    flat = read(f"{{training_type: generate, {settings}}}")

    assert flat == read(f"generate: {{{settings}}}")
    assert flat.generate.generation.clips_per_prompt == 4


@pytest.mark.parametrize(
    ("generate", "missing"),
    [
        ({}, ["spec.generate.player.base_model", "spec.generate.generation.prompts"]),
        ({"player": {"base_model": "tiny"}}, ["spec.generate.generation.prompts"]),
        ({"generation": {"prompts": ["a song"]}}, ["spec.generate.player.base_model"]),
        ({"player": {"adapter_id": f"adp_{'Z' * 26}"}, "generation": {"prompts": ["a song"]}}, []),
        ({"player": {"base_model": "tiny"}, "generation": {"prompts": ["a song"]}}, []),
    ],
)
def test_clips_need_a_prompt_and_a_player_which_may_be_an_adapter_alone(generate, missing):
    given = job_spec_pb2.JobSpec(generate=generate)

    try:
        problems = []
        resolved = spec.resolve(given)
    except InvalidField as refused:
        problems = [each.path for each in refused.fields]

    assert problems == missing
    assert missing or resolved.generate.generation.clips_per_prompt == 1


def test_a_training_type_alone_chooses_the_kind_with_every_setting_open():
    assert read("training_type: preference") == job_spec_pb2.JobSpec(dpo={})


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("training_type: rlhf", "training_type: 'rlhf' is not one of supervised, preference, ranking"),
        ("training_type: dpo", "; dpo is trained by training_type: preference"),
        ("{training_type: preference, dpo: {beta: 0.1}}", "write `dpo:` with the settings below it, or them beside"),
        ("{training_type: preference, ranking: {}}", "training_type: does not go with `ranking:`"),
        ("{training_type: preference, margin: 0.1}", "dpo.margin: unknown here; it belongs under ranking"),
        ("{training_type: preference, learning_rate: 0.1}", "dpo.learning_rate: unknown here; it belongs under train"),
        ("traning_type: preference", "traning_type: unknown key; did you mean training_type?"),
    ],
)
def test_what_is_wrong_with_a_training_type_is_told_with_the_way_out(text, told):
    with pytest.raises(InvalidField) as caught:
        read(text)

    assert told in str(caught.value)


@pytest.mark.parametrize(
    ("group", "setting", "kind", "words"),
    [
        ("DpoSpec", "beta", "dpo", "0.02; 10 with loss=sigmoid_norm or loss=ipo"),
        ("DpoSpec", "loss", "dpo", "sigmoid"),
        ("TrainingSettings", "learning_rate", "", "0.0002; 5e-05 for dpo and ranking"),
        ("TrainingSettings", "learning_rate", "supervised", "0.0002"),
        ("TrainingSettings", "learning_rate", "dpo", "5e-05"),
        ("RankingSpec", "relative_to_reference", "ranking", "true"),
        ("RankingSpec", "margin", "ranking", "0.1 with loss=margin"),
        ("RankingSpec", "temperature", "", "0.2 with loss=plackett_luce"),
        ("AdapterSettings", "base_model", "dpo", ""),
    ],
)
def test_a_default_is_told_with_the_conditions_under_which_another_holds(group, setting, kind, words):
    field = job_spec_pb2.DESCRIPTOR.message_types_by_name[group].fields_by_name[setting]

    assert default_words(field, kind=kind) == words


def test_settings_in_force_are_read_by_their_paths_and_short_names():
    given = job_spec_pb2.JobSpec(tiny_lm={"training": {"epochs": 3, "precision": "PRECISION_BF16"}})
    given.tiny_lm.samples.sample_prompts.append("The")

    values = spec.in_force(given.tiny_lm)

    assert (values["training.epochs"], values["training.precision"]) == (3, "bf16")
    assert values["samples.sample_prompts"] == ["The"]
    assert not any(path.startswith("corpus.corpus_files") for path in values)


@pytest.mark.parametrize(
    ("group", "told"),
    [
        ({"training": {"epochs": "many"}}, "tiny_lm.training.epochs: must be a whole number (given: 'many')"),
        ({"training": {"epochs": 2.5}}, "tiny_lm.training.epochs: must be a whole number (given: 2.5)"),
        ({"training": {"learning_rate": [1]}}, "tiny_lm.training.learning_rate: must be a number (given: [1])"),
        (
            {"tokenizer": {"byte_fallback": "da"}},
            "tiny_lm.tokenizer.byte_fallback: must be true or false (given: 'da')",
        ),
        ({"samples": {"sample_prompts": [7]}}, "tiny_lm.samples.sample_prompts: must be a list of texts (given: [7])"),
        (
            {"corpus": {"corpus_files": [{"name": "en.txt", "digest": 7}]}},
            "tiny_lm.corpus.corpus_files: must be a list of mappings of name, digest, texts in quotes "
            "(given: [{'name': 'en.txt', 'digest': 7}])",
        ),
    ],
)
def test_a_value_of_the_wrong_kind_is_told_where_it_stands_and_what_it_must_be(group, told):
    with pytest.raises(InvalidField) as refused:
        spec.parse({"tiny_lm": group}, job_spec_pb2.JobSpec())

    assert refused.value.message == told


def test_every_value_of_the_wrong_kind_is_told_at_once():
    with pytest.raises(InvalidField) as refused:
        spec.parse({"tiny_lm": {"training": {"epochs": "many", "seed": "x"}}}, job_spec_pb2.JobSpec())

    assert refused.value.message == (
        "tiny_lm.training.epochs: must be a whole number (given: 'many'); "
        "tiny_lm.training.seed: must be a whole number (given: 'x')"
    )


@pytest.mark.parametrize(("learning_rate", "taken"), [("2e-4", 2e-4), (1, 1.0), (0.5, 0.5), (None, 0.0)])
def test_what_yaml_reads_otherwise_than_it_is_meant_is_taken(learning_rate, taken):
    training = {"learning_rate": learning_rate, "precision": "bf16"}

    parsed = spec.parse({"tiny_lm": {"training": training}}, job_spec_pb2.JobSpec())

    assert parsed.tiny_lm.training.learning_rate == taken
    assert parsed.tiny_lm.training.precision == job_spec_pb2.PRECISION_BF16


def test_a_setting_that_stands_twice_is_refused_with_its_line_instead_of_one_winning():
    with pytest.raises(InvalidField) as caught:
        read("dpo:\n  beta: 0.1\n  training: {epochs: 3}\n  beta: 0.2\n")

    assert "run.yaml:4" in str(caught.value) and "beta is given twice; leave one of them out" in str(caught.value)


def ranking(**settings: object) -> job_spec_pb2.JobSpec:
    return spec.parse({"ranking": {"adapter": {"base_model": "tiny"}, **settings}}, job_spec_pb2.JobSpec())


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"loss": "plackett_luce", "margin": 5}, "margin is for the loss margin; leave it out, or choose that loss"),
        ({"loss": "margin", "temperature": 0.1}, "temperature is for the loss plackett_luce; leave it out, or choose"),
        ({"temperature": 0.1}, "temperature is for the loss plackett_luce; leave it out, or choose that loss"),
    ],
)
def test_a_setting_of_another_ranking_loss_is_refused_instead_of_ignored(settings, told):
    with pytest.raises(InvalidField, match=told):
        spec.resolve(ranking(**settings))


@pytest.mark.parametrize("loss", ["margin", "plackett_luce"])
def test_a_resolved_ranking_has_the_settings_of_its_loss_alone_and_may_be_resolved_again(loss):
    resolved = spec.resolve(ranking(loss=loss))

    assert spec.resolve(resolved) == resolved
    in_force = spec.in_force(resolved.ranking)
    assert {name: in_force[name] for name in ("margin", "temperature") if name in in_force} == (
        {"margin": 0.1} if loss == "margin" else {"temperature": 0.2}
    )


def test_a_run_that_chooses_another_loss_leaves_the_settings_of_the_experiments_loss_behind():
    merged = spec.merge(ranking(margin=0.3, sft_weight=0.5), ranking(loss="plackett_luce"))

    resolved = spec.resolve(merged).ranking
    assert (resolved.HasField("margin"), resolved.temperature, resolved.sft_weight) == (False, 0.2, 0.5)


def test_a_setting_of_another_loss_is_refused_though_an_experiment_chose_the_loss_or_gave_the_setting():
    by_run = spec.merge(ranking(loss="plackett_luce"), ranking(margin=0.3))
    by_experiment = spec.merge(ranking(temperature=0.1), ranking(sft_weight=0.5))

    with pytest.raises(InvalidField, match="margin is for the loss margin"):
        spec.resolve(by_run)
    with pytest.raises(InvalidField, match="temperature is for the loss plackett_luce"):
        spec.resolve(by_experiment)
