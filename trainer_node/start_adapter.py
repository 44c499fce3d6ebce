"""The adapter that a training in the foreground starts from: a PEFT folder that Tunesmith wrote.

Its matrices fix the base model, their rank, scale and layers; a spec takes these over. Whether the weights of the base
model are the same is checked by the engine, which has them at hand: by the fingerprint that the training left beside
the adapter. The name of the base model decides only where there is none.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from trainer_node import peft_folder, report
from trainer_node.errors import StartAdapterUnsuitable
from trainer_node.lora_targets import LORA_TARGETS
from tunesmith import adapter_shape
from tunesmith import spec as specs
from tunesmith.errors import FieldProblem, InvalidField
from tunesmith.v1 import job_event_pb2, job_spec_pb2, trainer_pb2

_FOREIGN = ("use_rslora", "use_dora", "rank_pattern", "alpha_pattern", "layers_to_transform", "modules_to_save")
_WHICH = "give the folder `adapter` of a training's output, or one that was exported as peft"


def adopt(spec: job_spec_pb2.JobSpec, folder: Path) -> job_spec_pb2.JobSpec:
    """A copy of `spec`, not resolved yet, with what the adapter in `folder` fixes where the spec leaves it open.

    Raises StartAdapterUnsuitable where the folder is no adapter that can be gone on with, or is one of another base
    model and has no fingerprint of it; InvalidField where another rank, scale or choice of layers is given, or the id
    of an adapter as well.
    """
    adopted = job_spec_pb2.JobSpec()
    adopted.CopyFrom(spec)
    kind = specs.kind_of(spec)
    given = adapter_shape.settings_of(adopted)
    if given is None:
        what = f"{kind or 'no kind of training'} starts from no adapter; leave it out, or train supervised"
        raise InvalidField.of([FieldProblem("start_adapter", what)])
    trained = settings_in(folder)
    if not _config_in(folder).base_model_fingerprint:
        _require_base(given, trained)
    path = f"spec.{kind}.adapter"
    problems = adapter_shape.differences(given, trained, path=path)
    if given.start_adapter_id:
        what = "is an adapter of a control plane, which this training does not have; leave it out, or give its folder"
        problems = [FieldProblem(f"{path}.start_adapter_id", what), *problems]
    if problems:
        raise InvalidField.of(problems)
    adapter_shape.take_over(given, trained)
    return adopted


def described(folder: Path) -> trainer_pb2.StartAdapter:
    """What a job is told of the adapter beside its files: the base model's fingerprint and the lineage.

    An adapter without a `training_config.json` is told by the name of its folder alone. Raises StartAdapterUnsuitable
    where that is damaged: whether the base model is the same could not be checked.
    """
    folder = folder.resolve()
    config = _config_in(folder)
    origin = job_event_pb2.AdapterOrigin(
        name=folder.parent.name if folder.name == "adapter" else folder.name,
        kind=specs.kind_of(config.spec),
        dataset_version_id=config.dataset_version_id,
    )
    return trainer_pb2.StartAdapter(
        base_model_fingerprint=config.base_model_fingerprint, lineage=[*config.lineage, origin]
    )


def _config_in(folder: Path) -> job_event_pb2.TrainingConfig:
    """What decided the adapter's training; empty where nobody knows."""
    try:
        return report.read_config(folder / report.CONFIG)
    except FileNotFoundError:
        return job_event_pb2.TrainingConfig()
    except (OSError, ValueError) as error:
        what = f"{folder / report.CONFIG} cannot be read, so nobody knows what the adapter was trained on"
        raise StartAdapterUnsuitable(f"{what}; {_WHICH}") from error


def settings_in(folder: Path) -> job_spec_pb2.AdapterSettings:
    """The settings that an adapter was trained with, as PEFT wrote them. Raises StartAdapterUnsuitable."""
    for name in (peft_folder.CONFIG, peft_folder.TENSORS):
        if not (folder / name).is_file():
            raise StartAdapterUnsuitable(f"{folder} is no adapter to start from: it has no {name}; {_WHICH}")
    try:
        config = json.loads((folder / peft_folder.CONFIG).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise StartAdapterUnsuitable(f"{folder / peft_folder.CONFIG} cannot be read ({error}); {_WHICH}") from error
    return _settings_of(config if isinstance(config, dict) else {}, folder)


def _settings_of(config: Mapping[str, Any], folder: Path) -> job_spec_pb2.AdapterSettings:
    foreign = next((name for name in _FOREIGN if config.get(name)), None)
    modules = config.get("target_modules")
    targets = next((choice for choice, layers in LORA_TARGETS.items() if layers == modules), None)
    if config.get("peft_type") != "LORA" or foreign or targets is None:
        what = f"was made with {foreign}" if foreign else "trains other layers than lora_targets knows"
        what = what if config.get("peft_type") == "LORA" else "is no LoRA adapter"
        raise StartAdapterUnsuitable(f"the adapter in {folder} {what}, so it cannot be gone on with; {_WHICH}")
    try:
        settings = job_spec_pb2.AdapterSettings(
            base_model=config["base_model_name_or_path"],
            lora_r=config["r"],
            lora_alpha=config["lora_alpha"],
            lora_targets=targets,
        )
    except (KeyError, TypeError, ValueError) as error:
        raise StartAdapterUnsuitable(
            f"{folder / peft_folder.CONFIG} is not as PEFT writes it ({error}); {_WHICH}"
        ) from error
    unstated = [f"{name}: missing" for name in adapter_shape.unstated(settings)]
    if problems := [*unstated, *map(str, specs.check(settings))]:
        raise StartAdapterUnsuitable(f"{folder / peft_folder.CONFIG}: {problems[0]}; {_WHICH}")
    return settings


def _require_base(given: job_spec_pb2.AdapterSettings, trained: job_spec_pb2.AdapterSettings) -> None:
    """A folder that has the name of a model on Hugging Face may hold that model."""
    if given.base_model and given.base_model.rpartition("/")[2] != trained.base_model.rpartition("/")[2]:
        raise StartAdapterUnsuitable(
            f"the adapter to start from was trained on {trained.base_model}, not on {given.base_model}; leave "
            f"base_model out or give that, or choose an adapter of {given.base_model}",
            base_model=trained.base_model,
        )
