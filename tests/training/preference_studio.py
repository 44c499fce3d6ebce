"""Comparisons of synthesised clips, and trainings on them. The better a clip, the less noise is in its tone."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
from numpy.typing import NDArray

from tests.training.studio import Blobs, Studio, Telemetry, Training
from trainer_node.engines.musicgen.dpo import METRICS, DpoTrainer
from trainer_node.engines.musicgen.session import Kind, Parts, run
from trainer_node.engines.registry import engine_for
from trainer_node.training import TrainingClip, TrainingComparison, TrainingJob, TrainingSample
from tunesmith import spec as job_spec
from tunesmith.v1 import job_event_pb2, job_spec_pb2, trainer_pb2

RATE_HZ = 16000

# Validation holds out whole prompts.
PROMPTS = (
    "low sine drone",
    "high bright square wave arpeggio",
    "calm ambient pad",
    "slow bell melody",
    "warm bass line",
    "glassy lead",
)

# Short trainings whose loss visibly falls; every test says what it changes.
SETTINGS: dict[str, dict[str, Any]] = {
    "adapter": {"base_model": "tiny", "lora_r": 8, "lora_alpha": 16},
    "training": {"epochs": 2, "batch_size": 4, "learning_rate": 0.005, "log_every_steps": 1},
    "validation": {"validation_fraction": 0.2},
}


def comparisons(
    studio: Studio, count: int, *, size: int = 2, length_s: float | Sequence[float] = 0.3
) -> list[TrainingComparison]:
    """Clips of one pitch each, from pure tone to pure noise, ranked 1 to `size`; PROMPTS by turns.

    length_s: of the clips, one after the other and from the beginning again.
    """
    lengths = [length_s] if isinstance(length_s, (int, float)) else list(length_s)
    return [
        TrainingComparison(
            prompt=PROMPTS[i % len(PROMPTS)],
            clips=tuple(
                clip(studio, i, rank, noise=(rank - 1) / (size - 1), length_s=lengths[(size * i + rank) % len(lengths)])
                for rank in range(1, size + 1)
            ),
        )
        for i in range(count)
    ]


def low_to_high(studio: Studio, count: int, *, size: int = 2) -> list[TrainingComparison]:
    """Tones, the lower the better, of other pitches, phases and lengths each; prompts of their own.

    What is learnt of some goes for all the others, which the untrained model knows nothing of.
    """
    drawn = np.random.default_rng(0)
    return [
        TrainingComparison(
            prompt=f"{PROMPTS[i % 3]} {i}",
            clips=tuple(_pitched(studio, i, rank, drawn) for rank in range(1, size + 1)),
        )
        for i in range(count)
    ]


def _pitched(studio: Studio, i: int, rank: int, drawn: np.random.Generator) -> TrainingClip:
    time_n = np.arange(round((0.5, 0.3, 0.4)[(i + rank) % 3] * RATE_HZ)) / RATE_HZ
    pitch_hz = 150 * 2.2 ** (rank - 1) * drawn.uniform(0.98, 1.02)
    sound_n = 0.5 * np.sin(2 * np.pi * (pitch_hz * time_n + drawn.uniform()))
    return _written(studio.folder / f"pitch-{i}-{rank}.wav", sound_n, rank)


def clip(studio: Studio, i: int, rank: int, *, noise: float, length_s: float) -> TrainingClip:
    """Tone i with a share of noise, 0 to 1."""
    time_n = np.arange(round(length_s * RATE_HZ)) / RATE_HZ
    tone_n = np.sin(2 * np.pi * (110 + 80 * (i % 4) + i) * time_n)  # much alike, so that what is learnt goes for others
    noise_n = np.random.default_rng(100 * i + rank).uniform(-1, 1, len(time_n))
    path = studio.folder / f"tone-{i}-{noise:.2f}-{length_s}.wav"
    return _written(path, 0.6 * ((1 - noise) * tone_n + noise * noise_n), rank)


def _written(path: Path, sound_n: NDArray[np.float64], rank: int) -> TrainingClip:
    soundfile.write(path, sound_n, RATE_HZ)
    return TrainingClip(audio_path=path, audio_digest=hashlib.sha256(path.read_bytes()).hexdigest(), rank=rank)


def sample(prompt: str, clip: TrainingClip) -> TrainingSample:
    """The clip alone, as what is encoded."""
    return TrainingSample(prompt=prompt, audio_path=clip.audio_path, audio_digest=clip.audio_digest)


def train(
    studio: Studio,
    kind: str,
    compared: Sequence[TrainingComparison],
    *,
    stop: Callable[[Telemetry], bool] = lambda _: False,
    resume_dir: Path | None = None,
    output_dir: Path | None = None,
    start_adapter_dir: Path | None = None,
    cache_dir: Path | None = None,
    **overrides: Any,
) -> Training:
    """Run the engine of `dpo` or `ranking` with SETTINGS and these changes, such as training={"epochs": 4}."""
    studio.telemetry = telemetry = Telemetry()
    asked = job(
        studio,
        kind,
        compared,
        resume_dir=resume_dir,
        output_dir=output_dir,
        start_adapter_dir=start_adapter_dir,
        cache_dir=cache_dir,
        **overrides,
    )
    blobs = Blobs(studio.folder / "blobs")
    outcome = engine_for(kind)(asked, telemetry, blobs, lambda: stop(telemetry))
    return Training(outcome, telemetry, blobs, asked.output_dir)


def job(
    studio: Studio,
    kind: str,
    compared: Sequence[TrainingComparison],
    *,
    resume_dir: Path | None = None,
    output_dir: Path | None = None,
    start_adapter_dir: Path | None = None,
    cache_dir: Path | None = None,
    **overrides: Any,
) -> TrainingJob:
    """What `train` gives the engine."""
    studio.trainings += 1
    return TrainingJob(
        job=trainer_pb2.Job(spec=spec(kind, **overrides), attempt=1),
        comparisons=compared,
        models_dir=studio.models_dir,
        cache_dir=cache_dir or studio.cache_dir,
        output_dir=output_dir or studio.folder / f"training-{studio.trainings}",
        resume_dir=resume_dir,
        start_adapter_dir=start_adapter_dir,
        threads=1,
        device="cpu",
    )


def trained_parts(studio: Studio, compared: Sequence[TrainingComparison], **overrides: Any) -> Parts:
    """What a DPO trainer was built of, its model trained."""
    asked = job(studio, "dpo", compared, **overrides)
    settings = asked.job.spec.dpo
    built: list[Parts] = []

    def build(parts: Parts) -> DpoTrainer:
        built.append(parts)
        return DpoTrainer(parts, settings)

    kind = Kind(build=build, needs_reference=True, metrics=METRICS)
    run(asked, Telemetry(), Blobs(studio.folder / "blobs"), lambda: False, settings=settings, kind=kind)
    return built[0]


def resume(
    studio: Studio, kind: str, interrupted: Training, compared: Sequence[TrainingComparison], **overrides: Any
) -> Training:
    """Go on from the last checkpoint that was announced, laid out from its blobs in a place of its own."""
    studio.trainings += 1
    files = interrupted.checkpoints()[-1].files
    folder = interrupted.blobs.lay_out(files, studio.folder / f"resume-{studio.trainings}")
    return train(studio, kind, compared, resume_dir=folder, **overrides)


def spec(kind: str, **overrides: Any) -> job_spec_pb2.JobSpec:
    """A resolved spec: SETTINGS with these changes."""
    merged: dict[str, Any] = {group: dict(values) for group, values in SETTINGS.items()}
    for name, value in overrides.items():
        merged[name] = {**merged.get(name, {}), **value} if isinstance(value, Mapping) else value
    return job_spec.resolve(job_spec.parse({kind: merged}, job_spec_pb2.JobSpec()))


def stop_after_row(step: int) -> Callable[[Telemetry], bool]:
    """Asked to stop once the row of `step` is out."""
    return lambda telemetry: telemetry.last_step() >= step


def cancelled_at(training: Training) -> int:
    """Step of the checkpoint that a cancelled training left."""
    assert isinstance(training.outcome, job_event_pb2.JobCancelled)
    return training.outcome.checkpoint_step
