"""Clips for prompts: what people rate, and what shows the difference between two adapters. Nothing is trained.

Each clip is announced as soon as it is kept, so a run that is stopped half-way leaves what it has played.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trainer_node import preflight
from trainer_node.data.clip_codes import ClipCodes, write_clip
from trainer_node.engines import memory
from trainer_node.engines.musicgen import devices, family, quiet, remedies, start
from trainer_node.engines.musicgen.devices import Device
from trainer_node.engines.musicgen.family import BaseModel
from trainer_node.engines.musicgen.features import Stopped
from trainer_node.engines.musicgen.sampling import Played, Sampling, Wanted, play
from trainer_node.training import Blobs, Outcome, StopRequested, Telemetry, TrainingJob
from tunesmith.v1 import job_event_pb2, job_spec_pb2

_CACHE_BYTES = 1 << 29  # what the keys and values of all clips that are played at once may take
_MOST_AT_ONCE = 64


@dataclass(frozen=True)
class _Player:
    """Who plays. codec: its fingerprint."""

    base: BaseModel
    model: Any
    device: Device
    codec: str


def train(job: TrainingJob, telemetry: Telemetry, blobs: Blobs, stop: StopRequested) -> Outcome:
    """Play what is asked for; see trainer_node.training.Train."""
    quiet.be_quiet()
    spec = job.job.spec.generate
    generation = spec.generation
    wanted = [
        (index, Wanted(prompt, generation.seed + place))
        for index, prompt in enumerate(generation.prompts)
        for place in range(generation.clips_per_prompt)
    ]
    with preflight.disk_full_says_what_to_free(job.output_dir):
        player = _player(job, spec.player)
        _require_space(job.output_dir, player.base, generation, clips=len(wanted))
        started = job_event_pb2.JobStarted(total_steps=len(wanted), device=str(player.device))
        telemetry.emit(job_event_pb2.JobEvent(started=started))
        try:
            with memory.out_of_memory_names(remedies.shorter_played(generation)):
                _play_all(job, player, wanted, telemetry, blobs, stop)
        except Stopped:
            return job_event_pb2.JobCancelled()
    return job_event_pb2.JobSucceeded(clip_count=len(wanted))


def _player(job: TrainingJob, settings: job_spec_pb2.PlayerSettings) -> _Player:
    """The base model with the adapter on it, where there is one. Raises StartAdapterUnsuitable."""
    device = devices.choose(job.device, job_spec_pb2.PRECISION_AUTO, threads=job.threads)
    name = settings.base_model
    base = family.load_base(preflight.find_base_model(job.models_dir, name), name=name)
    base.model.to(device.name)
    encoders = base.encoder_fingerprints()
    folder = job.start_adapter_dir
    if folder is None:
        base.model.decoder.to(device.dtype)
        return _Player(base, base.model, device, encoders["codec"])
    start.require_base(job.job.start_adapter.base_model_fingerprint, base.fingerprint(encoders))
    model = start.with_adapter(base, folder, dtype=device.dtype)
    return _Player(base, model, device, encoders["codec"])


def _play_all(
    job: TrainingJob,
    player: _Player,
    wanted: Sequence[tuple[int, Wanted]],
    telemetry: Telemetry,
    blobs: Blobs,
    stop: StopRequested,
) -> None:
    generation = job.job.spec.generate.generation
    sampling = Sampling(
        length_s=generation.clip_s,
        guidance_scale=generation.guidance_scale,
        temperature=generation.temperature,
        top_k=generation.top_k,
        min_p=generation.min_p,
    ).of(player.base)
    folder = job.output_dir / "clips"
    folder.mkdir(parents=True, exist_ok=True)
    done, begun = 0, time.monotonic()
    for part in _parts(wanted, _at_once(player.base, sampling)):
        clips = play(player.model, player.base, [one for _, one in part], sampling, stop)
        for (index, _), clip in zip(part, clips, strict=True):
            _keep(folder, player, index, clip, telemetry, blobs)
        done += len(part)
        _tell_progress(telemetry, done, len(wanted), done / (time.monotonic() - begun))


def _keep(folder: Path, player: _Player, index: int, clip: Played, telemetry: Telemetry, blobs: Blobs) -> None:
    """A clip as a blob and an event; the file itself is not needed any more."""
    name = f"prompt-{index}-seed-{clip.seed}.wav"
    path = folder / name
    write_clip(path, clip.sound_CN, player.base.clip_hz, ClipCodes(clip.codes_KT, player.codec))
    saved = job_event_pb2.PreviewSaved(
        prompt_index=index,
        prompt=clip.prompt,
        seed=clip.seed,
        duration_s=clip.sound_CN.shape[-1] / player.base.clip_hz,
        file=blobs.keep(path, name),
    )
    telemetry.emit(job_event_pb2.JobEvent(preview_saved=saved))
    path.unlink()


def _tell_progress(telemetry: Telemetry, done: int, total: int, clips_per_s: float) -> None:
    batch = job_event_pb2.MetricBatch(
        names=["clips_per_s"], steps=[done], times_us=[time.time_ns() // 1000], values=[clips_per_s]
    )
    telemetry.emit(job_event_pb2.JobEvent(metrics=batch))
    print(f"clips={done} of={total} clips_per_s={clips_per_s:.3g}", flush=True)


def _parts(wanted: Sequence[tuple[int, Wanted]], size: int) -> Iterator[Sequence[tuple[int, Wanted]]]:
    for begin in range(0, len(wanted), size):
        yield wanted[begin : begin + size]


def _at_once(base: BaseModel, sampling: Sampling) -> int:
    """How many clips are played at once: many small ones, or few large ones."""
    decoder = base.model.config.decoder
    steps = sampling.length_s * base.frame_rate_hz + decoder.num_codebooks
    values = 2 * decoder.num_hidden_layers * decoder.hidden_size * steps * (2 if sampling.guidance_scale > 1 else 1)
    return max(1, min(_MOST_AT_ONCE, int(_CACHE_BYTES / (values * base.model.decoder.dtype.itemsize))))


def _require_space(folder: Path, base: BaseModel, generation: job_spec_pb2.GenerationSettings, *, clips: int) -> None:
    clip_bytes = 2 * base.channels * math.ceil(generation.clip_s * base.clip_hz) + 10_000
    preflight.require_space(folder, clips * clip_bytes, purpose="the clips")
