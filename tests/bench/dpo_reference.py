"""A DPO step that has its reference from the cache against one that computes it, the adapter switched off."""

from __future__ import annotations

import os
import statistics
from collections.abc import Iterator
from pathlib import Path

import torch

from tests.bench.figures import Figure, median_s
from tests.training.studio import Blobs, Telemetry
from trainer_node.checkpoints import CheckpointFolder
from trainer_node.data.demo import write_demo
from trainer_node.data.jsonl import read_rated_file, training_samples
from trainer_node.engines.musicgen import dpo, examples, family, loop
from trainer_node.engines.musicgen.course import Course, Progress
from trainer_node.engines.musicgen.devices import Device
from trainer_node.engines.musicgen.dpo import DpoTrainer
from trainer_node.engines.musicgen.examples import Example
from trainer_node.engines.musicgen.features import Features
from trainer_node.engines.musicgen.preparation import Prepared
from trainer_node.engines.musicgen.reference import Reference
from trainer_node.engines.musicgen.session import Parts
from trainer_node.engines.musicgen.tiny import make_tiny
from tunesmith import spec as job_spec
from tunesmith.v1 import job_spec_pb2

PAIRS = 2
STEPS = 15
DEVICE = Device("cpu", torch.float32)


def measure(folder: Path) -> Iterator[Figure]:
    """Both kinds of step, by turns, on the demo's clips. TUNESMITH_BENCH_MODEL names a base model other than `tiny`."""
    source = os.environ.get("TUNESMITH_BENCH_MODEL") or make_tiny(folder / "tiny")
    spec = job_spec.resolve(job_spec_pb2.JobSpec(dpo={"adapter": {"base_model": "tiny"}})).dpo
    trainer = _trainer(folder, family.load_base(Path(source), name=str(source)), spec)
    optimizer = torch.optim.AdamW([part for part in trainer.model.parameters() if part.requires_grad])

    def step(*, live: bool) -> None:
        batch = trainer.method.collate(trainer.train_dataset)
        if live:
            with torch.no_grad(), trainer.model.disable_adapter():
                batch["reference_B"] = dpo.score(trainer.model, batch).sum(1)
        torch.autograd.backward(trainer.compute_loss(trainer.model, batch))
        optimizer.step()
        optimizer.zero_grad()

    taken: list[tuple[float, float]] = []
    for _ in range(STEPS):  # by turns, so that what else the machine does meets both
        taken.append((median_s(lambda: step(live=False), times=1), median_s(lambda: step(live=True), times=1)))
    cached, live = (statistics.median(times) for times in zip(*taken, strict=True))
    yield Figure(f"DPO step of {PAIRS} pairs, reference cached", f"{1000 * cached:.1f} ms")
    yield Figure("the same, reference computed in the step", f"{1000 * live:.1f} ms")
    yield Figure("live / cached", f"{live / cached:.2f} ×", f"base model: {Path(source).name}")


def _trainer(folder: Path, base: family.BaseModel, spec: job_spec_pb2.DpoSpec) -> DpoTrainer:
    model = family.add_lora(base, spec.adapter, dtype=DEVICE.dtype)
    reference = Reference(model, weights="", channels=base.channels, device=DEVICE, cache_dir=folder / "cache")
    pairs = examples.with_reference(_pairs(folder, base), reference, lambda: False)
    return DpoTrainer(
        Parts(
            course=Course(
                telemetry=Telemetry(),
                blobs=Blobs(folder / "blobs"),
                stop=lambda: False,
                checkpoints=CheckpointFolder(folder / "checkpoints", keep=1),
                progress=Progress(),
            ),
            prepared=Prepared(base=base, device=DEVICE, training=pairs, validation=[], identity={}, codec=""),
            model=model,
            arguments=loop.arguments(spec.training, device=DEVICE, total_steps=1, output_dir=folder / "checkpoints"),
            callbacks=[],
        ),
        spec,
    )


def _pairs(folder: Path, base: family.BaseModel) -> list[Example]:
    write_demo(folder / "demo", seed=0)
    samples = training_samples(read_rated_file(folder / "demo" / "rated.jsonl"), min_rating=None)[: 2 * PAIRS]
    clips = Features(base, folder / "cache", max_clip_s=30).clips(samples, lambda: False)
    return [Example(clips=pair, ranks=(1, 2)) for pair in zip(clips[::2], clips[1::2], strict=True)]
