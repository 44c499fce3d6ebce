"""What comes before the first step: the data is checked, the base model loaded, clips and prompts are encoded."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, Protocol

from google.protobuf import json_format

from trainer_node import preflight
from trainer_node.engines.musicgen import devices, family, fingerprints, memory
from trainer_node.engines.musicgen.family import BaseModel, Clip
from trainer_node.engines.musicgen.features import Features
from trainer_node.engines.musicgen.previews import CachedText
from trainer_node.training import StopRequested, TrainingJob
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


@dataclass
class Prepared:
    """Everything loaded and encoded; the base model has forgotten its T5."""

    base: BaseModel
    device: devices.Device
    training: list[Clip]
    validation: list[Clip]
    identity: dict[str, str]


def prepare(job: TrainingJob, settings: Settings, stop: StopRequested) -> Prepared:
    """Check the data, load the base model, encode what is not cached. Raises Stopped between two clips."""
    training = settings.training
    preflight.require_samples(job.samples)
    train, held_out = preflight.split(job.samples, fraction=settings.validation.validation_fraction, seed=training.seed)
    device = devices.choose(job.device, training.precision, threads=job.threads)
    name = settings.adapter.base_model
    base = family.load_base(preflight.find_base_model(job.models_dir, name), name=name)
    base.model.to(device.name)
    features = Features(base, job.cache_dir, max_clip_s=training.max_clip_s)
    with memory.out_of_memory_names(memory.shorter_clips(training)):
        clips = features.clips([*train, *held_out], stop)
    print(f"encoded {features.computed} of {features.looked_up} clips and prompts, the others were cached", flush=True)
    prompts = {prompt: features.text(prompt) for prompt in settings.previews.preview_prompts}
    fingerprint = fingerprints.of_values({**features.encoders, "decoder": base.decoder_fingerprint()})
    base.model.text_encoder = CachedText(base, prompts)
    data = [[sample.prompt, sample.audio_digest] for sample in job.samples]
    identity = {
        "settings": json.dumps(decisive(settings), sort_keys=True),
        "data": fingerprints.of_values({"samples": data}),
        "base_model": fingerprint,
    }
    return Prepared(base, device, clips[: len(train)], clips[len(train) :], identity)


def decisive(settings: Settings) -> dict[str, Any]:
    """The settings that a resumed training must share with its checkpoint: all but when to save, listen and log."""
    values: dict[str, Any] = json_format.MessageToDict(settings, preserving_proto_field_name=True)  # type: ignore[arg-type]  # every Settings is a message
    values.pop("checkpoints", None)
    values.pop("previews", None)
    values.get("training", {}).pop("log_every_steps", None)
    return values
