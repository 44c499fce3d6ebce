"""A band for the fake control plane: each run of generate succeeds at once, and its clips are tunes."""

from __future__ import annotations

import io
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np
import soundfile

from tests.cli.plane import FakePlane
from tests.cli.plane_state import id_of
from trainer_node.tunes.prompts import read
from trainer_node.tunes.synth import render
from trainer_node.tunes.world import RATE_HZ, draw
from tunesmith.v1 import adapter_pb2, experiment_pb2, run_pb2

EXPERIMENT = id_of("exp", 1)


def wav(wave: np.ndarray, rate_hz: int = RATE_HZ) -> bytes:
    """Samples as a WAV file."""
    file = io.BytesIO()
    soundfile.write(file, wave, rate_hz, format="WAV", subtype="PCM_16")
    return file.getvalue()


@dataclass
class Band:
    """taught: what each player, an adapter by its id or the base model, plays where a prompt leaves it open.

    ends: the states in which its first runs end, where that is not success. alter: what becomes of a clip.
    """

    fake: FakePlane
    taught: dict[str, Mapping[str, str]] = field(default_factory=dict)
    ends: list[str] = field(default_factory=list)
    alter: Callable[[run_pb2.Preview], list[run_pb2.Preview]] = lambda clip: [clip]
    played: list[run_pb2.CreateRunRequest] = field(default_factory=list)

    def adapter(self, version: int, **taught: str) -> adapter_pb2.Adapter:
        """An adapter that has learnt to play this."""
        adapter = self.fake.add_adapter(version)
        adapter.experiment_id, adapter.base_model = EXPERIMENT, "micro"
        self.taught[adapter.adapter_id] = taught
        return adapter

    def play(self, request: run_pb2.CreateRunRequest, _: object) -> None:
        """Let the run that is about to be created have ended, with its clips."""
        self.played.append(request)
        run_id = id_of("run", len(self.played))
        state = self.ends.pop(0) if self.ends else "SUCCEEDED"
        failure = (
            run_pb2.RunFailure(reason="OUT_OF_MEMORY", message="play fewer at once") if state == "FAILED" else None
        )
        self.fake.add_run(state, run_id, earlier=["RUNNING"], failure=failure, spec=request.spec)
        asked = request.spec.generate.generation
        taught = self.taught[request.spec.generate.player.adapter_id]
        for place, prompt in enumerate(asked.prompts):
            for seed in range(asked.seed, asked.seed + asked.clips_per_prompt):
                clip = run_pb2.Preview(run_id=run_id, attempt=1, prompt_index=place, prompt=prompt, seed=seed)
                clip.file.digest = self.fake.add_blob(self._sound(prompt, seed, taught))
                self.fake.state.previews += self.alter(clip)

    def _sound(self, prompt: str, seed: int, taught: Mapping[str, str]) -> bytes:
        random = np.random.default_rng((zlib.crc32(prompt.encode()), seed))
        return wav(render(draw(random, {**taught, **read(prompt)})))


def on_stage(fake: FakePlane) -> Band:
    """A band that plays minor without an adapter."""
    fake.state.experiments.append(experiment_pb2.Experiment(experiment_id=EXPERIMENT, name="piano"))
    band = Band(fake, taught={"": {"mode": "minor"}})
    fake.state.before["CreateRun"] = band.play
    return band
