"""The adapter that a training in the foreground starts from: what is taken over of it, and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from google.protobuf import json_format

from tests.unit.peft_folders import FFN, peft_folder
from trainer_node.errors import StartAdapterUnsuitable
from trainer_node.start_adapter import adopt, described
from tunesmith.errors import InvalidField
from tunesmith.spec import kind_of, resolve
from tunesmith.v1 import job_event_pb2, job_spec_pb2


def spec(**adapter: Any) -> job_spec_pb2.JobSpec:
    return job_spec_pb2.JobSpec(dpo={"adapter": adapter})


def test_what_the_matrices_fix_is_taken_over_and_the_rest_is_left_open(tmp_path: Path):
    given = spec()

    adopted = adopt(given, peft_folder(tmp_path / "adapter"))

    assert adopted.dpo.adapter == job_spec_pb2.AdapterSettings(
        base_model="facebook/musicgen-small", lora_r=8, lora_alpha=12, lora_targets=FFN
    )
    assert given == spec()
    assert resolve(adopted).dpo.adapter.lora_dropout == 0
    assert adopt(adopted, tmp_path / "adapter") == adopted


def test_the_same_values_may_be_given_and_the_base_model_by_the_name_of_its_folder(tmp_path: Path):
    adopted = adopt(
        spec(base_model="musicgen-small", lora_r=8, lora_alpha=12, lora_targets=FFN), peft_folder(tmp_path / "adapter")
    )

    assert adopted.dpo.adapter.base_model == "musicgen-small"


def test_every_other_value_is_refused_at_once_with_what_to_give(tmp_path: Path):
    folder = peft_folder(tmp_path / "adapter")

    with pytest.raises(InvalidField) as refused:
        adopt(spec(lora_r=16, lora_alpha=3, lora_targets="LORA_TARGETS_WIDE"), folder)

    assert [str(problem) for problem in refused.value.fields] == [
        "spec.dpo.adapter.lora_r: the adapter was trained with lora_r 8 (given: 16); leave it out, or give 8",
        "spec.dpo.adapter.lora_alpha: the adapter was trained with lora_alpha 12 (given: 3); leave it out, or give 12",
        "spec.dpo.adapter.lora_targets: the adapter was trained with lora_targets attention_ffn (given: wide); "
        "leave it out, or give attention_ffn",
    ]


def test_another_base_model_is_told_by_its_name_where_no_fingerprint_is_recorded(tmp_path: Path):
    with pytest.raises(
        StartAdapterUnsuitable, match=r"trained on facebook/musicgen-small, not on tiny; leave base_model"
    ):
        adopt(spec(base_model="tiny"), peft_folder(tmp_path / "adapter"))


def test_where_the_fingerprint_of_the_base_model_is_recorded_its_folder_may_have_another_name(tmp_path: Path):
    folder = peft_folder(tmp_path / "adapter")
    config = job_event_pb2.TrainingConfig(spec={"supervised": {}}, base_model_fingerprint="f" * 64)
    (folder / "training_config.json").write_text(json_format.MessageToJson(config))

    adopted = adopt(spec(base_model="my-copy"), folder)

    assert adopted.dpo.adapter.base_model == "my-copy"  # whose weights the engine compares by this:
    assert described(folder).base_model_fingerprint == "f" * 64


def test_an_id_beside_the_folder_and_a_kind_without_an_adapter_are_refused(tmp_path: Path):
    folder = peft_folder(tmp_path / "adapter")

    with pytest.raises(InvalidField, match="start_adapter_id: is an adapter of a control plane"):
        adopt(spec(start_adapter_id="adp_" + "0" * 26), folder)
    with pytest.raises(InvalidField, match="tiny_lm starts from no adapter; leave it out"):
        adopt(job_spec_pb2.JobSpec(tiny_lm={}), folder)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"peft_type": "IA3"}, "is no LoRA adapter"),
        ({"target_modules": ["q_proj"]}, "trains other layers than lora_targets knows"),
        ({"target_modules": None}, "trains other layers"),
        ({"use_rslora": True}, "was made with use_rslora"),
        ({"rank_pattern": {"fc1": 4}}, "was made with rank_pattern"),
        ({"r": None}, "lora_r"),
        ({"r": "8"}, "is not as PEFT writes it"),
        ({"r": 0}, "lora_r"),
        ({"base_model_name_or_path": "/somewhere/model"}, "base_model"),
        ({"base_model_name_or_path": None}, "base_model"),
    ],
)
def test_an_adapter_that_cannot_be_gone_on_with_is_told_with_which_can(
    tmp_path: Path, changes: dict[str, Any], says: str
):
    with pytest.raises(StartAdapterUnsuitable, match=f"{says}.*; give the folder `adapter` of a training's output"):
        adopt(spec(), peft_folder(tmp_path / "adapter", **changes))


@pytest.mark.parametrize("text", ["", "[]", "{", "\ud800"])
def test_a_folder_that_is_no_adapter_is_told_with_which_is(tmp_path: Path, text: str):
    folder = peft_folder(tmp_path / "adapter")
    (folder / "adapter_config.json").write_bytes(text.encode("utf-8", "surrogatepass"))

    with pytest.raises(StartAdapterUnsuitable, match="give the folder `adapter` of a training's output"):
        adopt(spec(), folder)
    (folder / "adapter_model.safetensors").unlink()
    with pytest.raises(StartAdapterUnsuitable, match=r"it has no adapter_model\.safetensors; give the folder"):
        adopt(spec(), folder)


def test_the_lineage_goes_on_from_that_of_the_adapter(tmp_path: Path):
    folder = peft_folder(tmp_path / "warm-up" / "adapter")
    older = job_event_pb2.AdapterOrigin(name="first", kind="supervised")
    config = job_event_pb2.TrainingConfig(
        spec={"supervised": {}}, base_model_fingerprint="f" * 64, dataset_version_id="dsv_1", lineage=[older]
    )
    (folder / "training_config.json").write_text(json_format.MessageToJson(config))

    told = described(folder)

    origin = job_event_pb2.AdapterOrigin(name="warm-up", kind="supervised", dataset_version_id="dsv_1")
    assert list(told.lineage) == [older, origin]
    assert told.base_model_fingerprint == "f" * 64
    assert kind_of(config.spec) == "supervised"


def test_an_adapter_that_does_not_say_how_it_was_trained_has_its_name(tmp_path: Path):
    folder = peft_folder(tmp_path / "from-a-friend")

    assert list(described(folder).lineage) == [job_event_pb2.AdapterOrigin(name="from-a-friend")]


@pytest.mark.parametrize("text", ["", "{", '{"base_model_fingerprint": "12'])
def test_an_adapter_whose_training_cannot_be_read_is_refused_rather_than_put_on_any_base(tmp_path: Path, text: str):
    folder = peft_folder(tmp_path / "adapter")
    (folder / "training_config.json").write_text(text)

    with pytest.raises(StartAdapterUnsuitable, match=r"training_config\.json cannot be read.*give the folder"):
        described(folder)
