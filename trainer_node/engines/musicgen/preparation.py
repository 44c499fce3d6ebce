"""What comes before the first step: the data is checked, the base model loaded, clips and prompts are encoded."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, Protocol

from google.protobuf import json_format

from trainer_node import preflight
from trainer_node.engines import memory
from trainer_node.engines.musicgen import examples, family, fingerprints, processes, remedies
from trainer_node.engines.musicgen.devices import Device
from trainer_node.engines.musicgen.examples import Example
from trainer_node.engines.musicgen.family import BaseModel
from trainer_node.engines.musicgen.features import Features
from trainer_node.engines.musicgen.previews import CachedText
from trainer_node.training import StopRequested, TrainingJob
from tunesmith import spec as specs
from tunesmith.v1 import job_spec_pb2


class Settings(Protocol):
    """What the specs of all kinds of adapter training have."""

    @property
    def adapter(self) -> job_spec_pb2.AdapterSettings:
        """The adapter and its base model."""

    @property
    def training(self) -> job_spec_pb2.TrainingSettings:
        """Optimisation."""

    @property
    def validation(self) -> job_spec_pb2.ValidationSettings:
        """Split and patience."""

    @property
    def checkpoints(self) -> job_spec_pb2.CheckpointSettings:
        """When to save, what to keep."""

    @property
    def previews(self) -> job_spec_pb2.PreviewSettings:
        """What to listen to."""


@dataclass(frozen=True)
class Prepared:
    """Everything loaded and encoded; the base model has forgotten its T5. identity: what the training is of. codec: the
    fingerprint of the base model's."""

    base: BaseModel
    device: Device
    training: list[Example]
    validation: list[Example]
    identity: dict[str, str]
    codec: str


def prepare(job: TrainingJob, settings: Settings, device: Device, stop: StopRequested) -> Prepared:
    """Load the base model, encode what is not cached. The data was checked. Raises Stopped between two clips."""
    training = settings.training
    train, held_out = examples.divide(job, settings.validation, seed=training.seed)
    name = settings.adapter.base_model
    base = family.load_base(preflight.find_base_model(job.models_dir, name), name=name)
    base.model.to(device.name)
    features = Features(base, job.cache_dir, max_clip_s=training.max_clip_s)
    with memory.out_of_memory_names(remedies.shorter_clips(training)), processes.first_goes_first():
        encoded = examples.encode([*train, *held_out], features, stop)
        prompts = {prompt: features.text(prompt) for prompt in settings.previews.preview_prompts}
    cache = features.cache
    print(f"encoded {cache.computed} of {cache.looked_up} clips and prompts, the others were cached", flush=True)
    fingerprint = base.fingerprint(features.encoders)
    base.model.text_encoder = CachedText(base, prompts)
    identity = {
        "kind": specs.kind_of(job.job.spec),
        "settings": json.dumps(decisive(settings), sort_keys=True),
        "data": fingerprints.of_values(_data(job)),
        "base_model": fingerprint,
    }
    return Prepared(base, device, encoded[: len(train)], encoded[len(train) :], identity, features.encoders["codec"])


def _data(job: TrainingJob) -> dict[str, object]:
    """What tells one data set from another."""
    if job.comparisons:
        ranked = [[one.prompt, [[clip.audio_digest, clip.rank] for clip in one.clips]] for one in job.comparisons]
        return {"comparisons": ranked}
    return {"samples": [[sample.prompt, sample.audio_digest] for sample in job.samples]}


def decisive(settings: Settings) -> dict[str, Any]:
    """The settings that a resumed training must share with its checkpoint: all but when to save, listen and log."""
    values: dict[str, Any] = json_format.MessageToDict(settings, preserving_proto_field_name=True)  # type: ignore[arg-type]  # every Settings is a message
    values.pop("checkpoints", None)
    values.pop("previews", None)
    values.get("training", {}).pop("log_every_steps", None)
    return values
