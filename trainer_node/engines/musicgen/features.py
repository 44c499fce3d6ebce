"""Codes and text states, computed once: per clip and crop, and per prompt, cached by content.

A clip that this base model's own codec has decoded keeps its codes (clip_codes.py); they are taken as they are.

A cache key holds everything that the bytes depend on: the audio (or the prompt), the crop, the weights of the encoder,
and the version of the code that computes it.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from trainer_node.data.audio import AudioRefused, read_audio
from trainer_node.data.clip_codes import read_codes
from trainer_node.engines.musicgen.family import BaseModel, Clip
from trainer_node.engines.musicgen.tensor_cache import TensorCache
from trainer_node.errors import DataInvalid
from trainer_node.training import StopRequested, TrainingSample

VERSION = 2  # raise it when the same audio or prompt shall give other numbers


class Stopped(Exception):
    """A stop was requested in the middle of something that can be left out: features, an evaluation, a preview."""


class Features:
    """Clips of samples, from the cache where they are there."""

    def __init__(self, base: BaseModel, cache_dir: Path, *, max_clip_s: float) -> None:
        self.base = base
        self.cache = TensorCache(cache_dir / "features")
        self.max_clip_s = max_clip_s
        self.encoders = base.encoder_fingerprints()
        self._states: dict[str, Tensor] = {}

    def clips(self, samples: list[TrainingSample], stop: StopRequested) -> list[Clip]:
        """The clips of all samples. Raises DataInvalid naming every sample that is too short, Stopped if asked to."""
        frame_s = 1 / self.base.frame_rate_hz
        if self.max_clip_s < frame_s:
            raise DataInvalid(f"max_clip_s is {self.max_clip_s:g}; give a frame of the codec ({frame_s:g}) or more")
        clips, problems = [], []
        for sample in samples:
            if stop():
                raise Stopped
            try:
                clips.append(Clip(codes_KT=self.codes(sample), text_LD=self.text(sample.prompt)))
            except DataInvalid as refused:
                problems.append(refused.message)
        if problems:
            more = f"; and {len(problems) - 10} more" if len(problems) > 10 else ""
            raise DataInvalid("; ".join(problems[:10]) + more)
        return clips

    def codes(self, sample: TrainingSample) -> Tensor:
        """codes_KT of one sample's clip."""
        key = {
            "audio": sample.audio_digest,
            "max_clip_s": self.max_clip_s,
            "codec": self.encoders["codec"],
            "version": VERSION,
        }
        return self.cache.get(key, lambda: self._codes(sample))

    def text(self, prompt: str) -> Tensor:
        """text_LD of one prompt; the same tensor for the same prompt."""
        if prompt not in self._states:
            key = {"prompt": prompt, "encoder": self.encoders["text"], "version": VERSION}
            self._states[prompt] = self.cache.get(key, lambda: self.base.encode_text(prompt))
        return self._states[prompt]

    def _codes(self, sample: TrainingSample) -> Tensor:
        kept_KT = self._kept(sample)
        return self._encode(sample) if kept_KT is None else kept_KT

    def _kept(self, sample: TrainingSample) -> Tensor | None:
        """The codes that the clip was decoded from; None where it keeps none, or those of another codec."""
        kept = read_codes(sample.audio_path)
        if kept is None or kept.codec != self.encoders["codec"]:
            return None
        codes_KT = torch.from_numpy(kept.codes_KT)[:, : max(1, int(self.max_clip_s * self.base.frame_rate_hz))]
        return codes_KT if self.base.can_decode(codes_KT) else None

    def _encode(self, sample: TrainingSample) -> Tensor:
        what = f"the clip with the prompt {sample.prompt[:60]!r} (audio {sample.audio_digest[:12]}…)"
        rate_hz, channels = self.base.clip_hz, self.base.channels
        try:
            sound_CN = read_audio(sample.audio_path, sample_rate_hz=rate_hz, channels=channels, max_s=self.max_clip_s)
        except AudioRefused as refused:
            raise DataInvalid(f"{what}: {refused.message}") from refused
        frame_s = 1 / self.base.frame_rate_hz
        if sound_CN.shape[-1] < rate_hz * frame_s:
            raise DataInvalid(
                f"{what} lasts {sound_CN.shape[-1] / rate_hz:.3f} s, less than one frame of the codec "
                f"({frame_s:.3f} s); remove it from the data set"
            )
        return self.base.encode_audio(sound_CN)
