"""What makes a training need less memory: the setting to change, and the number to change it to."""

from __future__ import annotations

import math

from tunesmith.v1 import job_spec_pb2


def smaller_step(training: job_spec_pb2.TrainingSettings, *, longest_list: int = 1) -> str:
    """What makes a training step smaller: half the batch, else recomputed activations, else shorter lists or clips.

    longest_list: clips of the longest list; lists of two, which are pairs, and single clips cannot be made shorter.
    """
    batch, parts = training.batch_size, training.gradient_accumulation_steps
    if batch > 1:
        smaller = batch // 2
        more = math.ceil(batch * parts / smaller)
        return (
            f"reduce batch_size from {batch} to {smaller} and set gradient_accumulation_steps from {parts} to {more} "
            f"to keep the effective batch of {batch * parts}"
        )
    if not training.gradient_checkpointing:
        return "set gradient_checkpointing to true"
    if longest_list > 2:
        shorter = max(2, longest_list // 2)
        return f"freeze the data as ranked lists with max_list_size {shorter} (the longest has {longest_list} clips)"
    return shorter_clips(training)


def shorter_clips(training: job_spec_pb2.TrainingSettings) -> str:
    """What makes a clip smaller."""
    return (
        f"reduce max_clip_s from {training.max_clip_s:g} to {training.max_clip_s / 2:g}, or take a smaller base model"
    )


def shorter_previews(previews: job_spec_pb2.PreviewSettings) -> str:
    """What makes a preview smaller."""
    return f"reduce preview_s from {previews.preview_s:g} to {previews.preview_s / 2:g}"


def shorter_played(generation: job_spec_pb2.GenerationSettings) -> str:
    """What makes a generated clip smaller."""
    return f"reduce clip_s from {generation.clip_s:g} to {generation.clip_s / 2:g}"
