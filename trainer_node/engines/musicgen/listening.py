"""Listens before the first step, every few epochs and at the end: each prompt becomes a WAV file and an event."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState

from trainer_node.data.clip_codes import ClipCodes, write_clip
from trainer_node.engines import memory
from trainer_node.engines.musicgen import previews, remedies
from trainer_node.engines.musicgen.course import Course
from trainer_node.engines.musicgen.family import BaseModel
from trainer_node.engines.musicgen.features import Stopped
from trainer_node.report_page import PreviewFile
from tunesmith.v1 import job_event_pb2, job_spec_pb2


class Previews(TrainerCallback):  # type: ignore[misc]  # transformers has no types
    """Due at the beginning of an epoch rather than at the end of the one before: by then its checkpoint is committed.

    codec: its fingerprint. steps_per_epoch: optimiser steps. `made` is what the report tells of.
    """

    def __init__(
        self,
        course: Course,
        base: BaseModel,
        settings: job_spec_pb2.PreviewSettings,
        *,
        codec: str,
        steps_per_epoch: int,
        output_dir: Path,
    ) -> None:
        self.course = course
        self.base = base
        self.codec = codec
        self.settings = settings
        self.every_steps = settings.preview_every_epochs * steps_per_epoch
        self.output_dir = output_dir
        self.made: list[PreviewFile] = []

    def on_epoch_begin(self, args: Any, state: TrainerState, control: TrainerControl, model: Any, **_: Any) -> None:
        """Step 0 is what the training starts from. A training resumed in the middle of an epoch was heard before."""
        step = state.global_step
        if self.course.progress.stopped_early:
            return  # resumed only to end, and the end is heard
        if step == 0 or (self.every_steps and step % self.every_steps == 0):
            self._listen(model, step)

    def on_train_end(self, args: Any, state: TrainerState, control: TrainerControl, model: Any, **_: Any) -> None:
        """The end is always heard, unless it is a cancel."""
        if not self.course.cancelled:
            self._listen(model, state.global_step)

    def _listen(self, model: Any, step: int) -> None:
        """All prompts. Asked to stop in the middle, it leaves the rest; the training's own check comes next."""
        with memory.out_of_memory_names(remedies.shorter_previews(self.settings)):
            for index, prompt in enumerate(self.settings.preview_prompts):
                try:
                    self._preview(model, step, index, prompt)
                except Stopped:
                    return

    def _preview(self, model: Any, step: int, index: int, prompt: str) -> None:
        played = previews.preview(model, self.base, prompt, self.settings, self.course.stop)
        name = f"step-{step:08d}-prompt-{index}.wav"
        path = self.output_dir / "previews" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        write_clip(path, played.sound_CN, self.base.clip_hz, ClipCodes(played.codes_KT, self.codec))
        saved = job_event_pb2.PreviewSaved(
            step=step,
            prompt_index=index,
            prompt=prompt,
            seed=played.seed,
            duration_s=played.sound_CN.shape[-1] / self.base.clip_hz,
            file=self.course.blobs.keep(path, name),
        )
        self.course.telemetry.emit(job_event_pb2.JobEvent(preview_saved=saved))
        self.made.append(PreviewFile(step=step, prompt=prompt, path=f"previews/{name}"))
        print(f"step={step} preview={index} prompt={prompt!r}", flush=True)
