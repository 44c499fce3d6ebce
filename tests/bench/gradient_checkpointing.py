"""A supervised training that keeps all activations against one that computes them again: time, and peak memory.

Each in a process of its own, so that neither sees what the other has left in memory:
`python -m tests.bench.gradient_checkpointing MODEL STEPS AGAIN` prints what one of them takes as JSON; AGAIN is 0 or 1.
"""

from __future__ import annotations

import json
import math
import os
import re
import resource
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from statistics import median
from time import perf_counter

import numpy as np
import soundfile
from transformers import MusicgenConfig, MusicgenForConditionalGeneration

from tests.bench.figures import Figure
from tests.training.studio import Blobs
from trainer_node.data.jsonl import digest_of
from trainer_node.engines.musicgen.tiny import make_tiny
from trainer_node.engines.registry import engine_for
from trainer_node.training import TrainingJob, TrainingSample
from tunesmith import spec
from tunesmith.v1 import job_event_pb2, job_spec_pb2, trainer_pb2

BATCH = 2
CLIP_S = 8
STEPS = 5
RATE_HZ = 16000


def measure(folder: Path, *, apart: bool = True) -> Iterator[Figure]:
    """Both kinds of step. TUNESMITH_BENCH_MODEL names the folder of another base model than a `tiny` of more layers.

    apart: in processes of their own; all in this one is quicker, and tells nothing of memory.
    """
    source = Path(os.environ.get("TUNESMITH_BENCH_MODEL") or _make_deep(folder))
    kept_s, again_s = (_taken(source, STEPS, again=again, apart=apart)[0] for again in (False, True))
    kept_mb, again_mb = (_taken(source, 1, again=again, apart=apart, gives_back=True)[1] for again in (False, True))
    what = f"step of {BATCH} clips of {CLIP_S} s"
    yield Figure(f"{what}, activations kept", f"{1000 * kept_s:.0f} ms", f"{kept_mb:.0f} MB above the model")
    yield Figure("the same, gradient_checkpointing", f"{1000 * again_s:.0f} ms", f"{again_mb:.0f} MB above the model")
    yield Figure("time, with / without", f"{again_s / kept_s:.2f} ×", f"base model: {source.name}")
    less = again_mb / kept_mb if kept_mb else math.nan  # a training this small may fit into what was freed before it
    yield Figure("peak memory above the model, with / without", f"{less:.2f} ×")


def _make_deep(folder: Path) -> Path:
    """`tiny` with a decoder of 8 layers of width 256: two of width 64 hold too little for a difference to show."""
    tiny, deep = make_tiny(folder / "tiny"), folder / "tiny-deep"
    shutil.copytree(tiny, deep)
    config = MusicgenConfig.from_pretrained(tiny)
    config.decoder.num_hidden_layers, config.decoder.hidden_size, config.decoder.ffn_dim = 8, 256, 1024
    MusicgenForConditionalGeneration(config).save_pretrained(deep)
    return deep


def _taken(source: Path, times: int, *, again: bool, apart: bool, gives_back: bool = False) -> tuple[float, float]:
    """What `steps` says. gives_back: freed memory goes back to the system, so that only what is held counts; slow."""
    if not apart:
        return steps(source, times, again=again)
    command = [sys.executable, "-m", "tests.bench.gradient_checkpointing", str(source), str(times), str(int(again))]
    allocator = {"MALLOC_MMAP_THRESHOLD_": "65536"} if gives_back else {}
    answer = subprocess.run(command, env=os.environ | allocator, capture_output=True, text=True, check=True).stdout
    step_s, peak_mb = json.loads(answer.splitlines()[-1])
    return step_s, peak_mb


def steps(source: Path, times: int, *, again: bool) -> tuple[float, float]:
    """Median seconds of a step of a training, and by how many MB the steps raise the memory of this process at most."""
    settings = {
        "adapter": {"base_model": source.name},
        "training": {
            "epochs": times + 1,
            "batch_size": BATCH,
            "log_every_steps": 1,
            "gradient_checkpointing": again,
            "max_clip_s": CLIP_S,
        },
        "validation": {"validation_fraction": 0},
        "checkpoints": {"checkpoint_every_epochs": 0},
    }
    asked = spec.resolve(spec.parse({"supervised": settings}, job_spec_pb2.JobSpec()))
    clock = Clock()
    with tempfile.TemporaryDirectory(prefix="tunesmith-bench-") as name:
        folder = Path(name)
        job = TrainingJob(
            job=trainer_pb2.Job(spec=asked, attempt=1),
            samples=[_noise(folder / f"clip-{number}.wav", number) for number in range(BATCH)],
            models_dir=source.parent,
            cache_dir=folder / "cache",
            output_dir=folder / "output",
            device="cpu",
        )
        engine_for("supervised")(job, clock, Blobs(folder / "blobs"), lambda: False)
    return median(later - at for at, later in pairwise(clock.steps_s)), clock.peak_mb - clock.before_mb


class Clock:
    """Telemetry that times the steps. A first one does not count: what it allocates for good is no difference."""

    def __init__(self) -> None:
        self.steps_s: list[float] = []
        self.before_mb = self.peak_mb = 0.0

    def emit(self, event: job_event_pb2.JobEvent) -> None:
        """Called at the end of each step with its metrics, and for what else happens."""
        if not event.HasField("metrics"):
            return
        if not self.steps_s:
            self.before_mb = _peak_mb(reset=True)
        self.peak_mb = _peak_mb()
        self.steps_s.append(perf_counter())


def _noise(path: Path, seed: int) -> TrainingSample:
    soundfile.write(path, np.random.default_rng(seed).uniform(-0.5, 0.5, round(CLIP_S * RATE_HZ)), RATE_HZ)
    return TrainingSample(prompt="noise of a wide band", audio_path=path, audio_digest=digest_of(path))


def _peak_mb(*, reset: bool = False) -> float:
    """The most memory that this process has had, or what it has now where the peak is `reset` and can be."""
    status = Path("/proc/self/status")
    if not status.exists():
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000
    if reset:
        Path("/proc/self/clear_refs").write_text("5")
    [peak_kb] = re.findall(r"VmHWM:\s+(\d+) kB", status.read_text())
    return int(peak_kb) / 1000


if __name__ == "__main__":
    print(json.dumps(steps(Path(sys.argv[1]), int(sys.argv[2]), again=sys.argv[3] == "1")))
