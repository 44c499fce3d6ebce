"""A training step with cached features against one that decodes the clip and runs EnCodec and T5 itself."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch

from tests.bench.figures import Figure, median_s
from trainer_node.data.audio import read_audio
from trainer_node.data.demo import write_demo
from trainer_node.data.jsonl import read_rated_file, training_samples
from trainer_node.engines.musicgen.examples import Example
from trainer_node.engines.musicgen.family import Clip, add_lora, load_base
from trainer_node.engines.musicgen.features import Features
from trainer_node.engines.musicgen.supervised import Supervised
from trainer_node.engines.musicgen.tiny import make_tiny
from trainer_node.training import TrainingSample
from tunesmith import spec
from tunesmith.v1 import job_spec_pb2

BATCH = 4
STEPS = 30


def measure(folder: Path) -> Iterator[Figure]:
    """Both kinds of step, by turns, on the demo's clips. TUNESMITH_BENCH_MODEL names a base model other than `tiny`."""
    source = os.environ.get("TUNESMITH_BENCH_MODEL") or make_tiny(folder / "tiny")
    write_demo(folder / "demo", seed=0)
    samples = training_samples(read_rated_file(folder / "demo" / "rated.jsonl"), min_rating=None)[:BATCH]
    base = load_base(Path(source), name=str(source))
    settings = spec.resolve(job_spec_pb2.JobSpec(supervised={"adapter": {"base_model": "tiny"}})).supervised
    features = Features(base, folder / "cache", max_clip_s=30)
    model = add_lora(base, settings.adapter, dtype=torch.float32)
    optimizer = torch.optim.AdamW([part for part in model.parameters() if part.requires_grad])
    method = Supervised(channels=base.channels, prompt_dropout=0.0, seed=0)

    def step(clips: Sequence[Clip]) -> None:
        loss, _ = method.loss(model, method.collate([Example((clip,)) for clip in clips]), None)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()

    def encoded(sample: TrainingSample) -> Clip:
        sound_CN = read_audio(
            sample.audio_path, sample_rate_hz=base.clip_hz, channels=base.channels, max_s=features.max_clip_s
        )
        return Clip(codes_KT=base.encode_audio(sound_CN), text_LD=base.encode_text(sample.prompt))

    cached = features.clips(list(samples), lambda: False)
    with_cache = median_s(lambda: step(cached), times=STEPS)
    without = median_s(lambda: step([encoded(sample) for sample in samples]), times=STEPS)
    yield Figure(f"step of {BATCH} clips, features cached", f"{1000 * with_cache:.1f} ms")
    yield Figure("the same, encoding in the step", f"{1000 * without:.1f} ms")
    yield Figure("without cache / with cache", f"{without / with_cache:.2f} ×", f"base model: {Path(source).name}")
