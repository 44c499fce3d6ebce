"""A supervised step that keeps all activations against one that computes them again: time, and peak memory.

Each in a process of its own, so that neither sees what the other has left in memory:
`python -m tests.bench.gradient_checkpointing MODEL STEPS AGAIN` prints what one of them takes as JSON; AGAIN is 0 or 1.
"""

from __future__ import annotations

import json
import os
import re
import resource
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import torch
from transformers import MusicgenConfig, MusicgenForConditionalGeneration

from tests.bench.figures import Figure, median_s
from trainer_node.engines.musicgen.examples import Example
from trainer_node.engines.musicgen.family import Clip, add_lora, load_base
from trainer_node.engines.musicgen.supervised import Supervised
from trainer_node.engines.musicgen.tiny import make_tiny
from tunesmith import spec
from tunesmith.v1 import job_spec_pb2

BATCH = 2
CLIP_S = 8
STEPS = 5
PROMPT_TOKENS = 16


def measure(folder: Path) -> Iterator[Figure]:
    """Both kinds of step. TUNESMITH_BENCH_MODEL names a base model other than a `tiny` of more layers."""
    source = Path(os.environ.get("TUNESMITH_BENCH_MODEL") or _make_deep(folder))
    kept_s, again_s = (_in_a_process(source, STEPS, again=again)[0] for again in (False, True))
    kept_mb, again_mb = (_in_a_process(source, 1, again=again, gives_back=True)[1] for again in (False, True))
    what = f"step of {BATCH} clips of {CLIP_S} s"
    yield Figure(f"{what}, activations kept", f"{1000 * kept_s:.0f} ms", f"{kept_mb:.0f} MB above the model")
    yield Figure("the same, gradient_checkpointing", f"{1000 * again_s:.0f} ms", f"{again_mb:.0f} MB above the model")
    yield Figure("time, with / without", f"{again_s / kept_s:.2f} ×", f"base model: {source.name}")
    yield Figure("peak memory above the model, with / without", f"{again_mb / kept_mb:.2f} ×")


def _make_deep(folder: Path) -> Path:
    """`tiny` with a decoder of 8 layers of width 256: two of width 64 hold too little for a difference to show."""
    tiny, deep = make_tiny(folder / "tiny"), folder / "tiny-deep"
    shutil.copytree(tiny, deep)
    config = MusicgenConfig.from_pretrained(tiny)
    config.decoder.num_hidden_layers, config.decoder.hidden_size, config.decoder.ffn_dim = 8, 256, 1024
    MusicgenForConditionalGeneration(config).save_pretrained(deep)
    return deep


def _in_a_process(source: Path, times: int, *, again: bool, gives_back: bool = False) -> tuple[float, float]:
    """What `steps` says. gives_back: freed memory goes back to the system, so that only what is held counts; slow."""
    command = [sys.executable, "-m", "tests.bench.gradient_checkpointing", str(source), str(times), str(int(again))]
    allocator = {"MALLOC_MMAP_THRESHOLD_": "65536"} if gives_back else {}
    answer = subprocess.run(command, env=os.environ | allocator, capture_output=True, text=True, check=True).stdout
    step_s, peak_mb = json.loads(answer.splitlines()[-1])
    return step_s, peak_mb


def steps(source: Path, times: int, *, again: bool) -> tuple[float, float]:
    """Median seconds of a step, and by how many MB the steps raise the memory of this process at most."""
    torch.manual_seed(0)
    base = load_base(source, name=str(source))
    settings = spec.resolve(job_spec_pb2.JobSpec(supervised={"adapter": {"base_model": "tiny"}})).supervised
    model = add_lora(base, settings.adapter, dtype=torch.float32)
    if again:
        model.activation_checkpointing_enable(activation_checkpointing_kwargs={"use_reentrant": False})
    optimizer = torch.optim.AdamW([part for part in model.parameters() if part.requires_grad])
    method = Supervised(channels=base.channels, prompt_dropout=0.0, seed=0)
    decoder, text = base.model.config.decoder, base.model.config.text_encoder
    shape_KT = (decoder.num_codebooks, round(CLIP_S * base.frame_rate_hz))
    clips = [
        Clip(
            codes_KT=torch.randint(decoder.vocab_size, shape_KT, dtype=torch.int16),
            text_LD=torch.randn(PROMPT_TOKENS, text.d_model),
        )
        for _ in range(BATCH)
    ]
    batch = method.collate([Example((clip,)) for clip in clips])
    model.train()

    def step() -> None:
        loss, _ = method.loss(model, batch, None)
        torch.autograd.backward(loss)
        optimizer.step()
        optimizer.zero_grad()

    step()  # what a first step allocates for good is no difference between the two
    before_mb = _peak_mb(reset=True)
    step_s = median_s(step, times=times)
    return step_s, _peak_mb() - before_mb


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
