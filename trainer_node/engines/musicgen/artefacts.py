"""What a successful training leaves: the adapter as a plain PEFT folder, its configuration and its report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor
from transformers import TrainerState

from trainer_node import report, report_page
from trainer_node.engines.musicgen import adapter_files
from trainer_node.engines.musicgen.course import Course
from trainer_node.engines.musicgen.model_card import Card, Format, licence_of
from trainer_node.report_page import PreviewFile
from trainer_node.training import keep_folder
from tunesmith.v1 import job_event_pb2


def final_adapter(course: Course, model: Any) -> dict[str, Tensor]:
    """The adapter with the lowest validation loss; the last one where nothing was held out."""
    return course.best_adapter if course.best_adapter is not None else adapter_files.tensors_of(model)


def training_report(
    course: Course, config: job_event_pb2.TrainingConfig, state: TrainerState, *, metrics: Sequence[str]
) -> job_event_pb2.TrainingReport:
    """The report of the whole training, that before a resume included.

    state: the Trainer's, with its log. metrics: names of the method's own, beside the loss.
    """
    history = state.log_history
    losses = [(int(row["step"]), row["loss"]) for row in history if "loss" in row]
    evaluations = [(int(row["step"]), row["eval_loss"]) for row in history if "eval_loss" in row]
    final_loss = losses[-1][1] if losses else float("nan")
    progress = course.progress
    return job_event_pb2.TrainingReport(
        config=config,
        final_loss=final_loss,
        best_loss=final_loss if progress.best_loss is None else progress.best_loss,
        best_step=state.global_step if progress.best_loss is None else progress.best_step,
        steps=state.global_step,
        epochs=state.epoch or 0.0,
        stopped_early=progress.stopped_early,
        training_time_s=course.training_time_s(),
        training_loss=report.curve(losses),
        validation_loss=report.curve(evaluations),
        environment=report.environment(),
        final_metrics=_last_values(history, metrics),
    )


def _last_values(history: Sequence[Mapping[str, float]], metrics: Sequence[str]) -> dict[str, float]:
    """The last value of each metric of the method, those of validation included."""
    wanted = {*metrics, *(f"eval_{name}" for name in metrics)}
    return {name: float(value) for row in history for name, value in row.items() if name in wanted}


def write(
    output_dir: Path,
    course: Course,
    model: Any,
    outcome: job_event_pb2.TrainingReport,
    previews: list[PreviewFile],
) -> job_event_pb2.JobSucceeded:
    """Write everything into the output folder and keep it as blobs."""
    adapter = output_dir / "adapter"
    adapter_files.write(adapter, model, final_adapter(course, model))
    base, source = model.peft_config["default"].base_model_name_or_path, Path(model.get_base_model().name_or_path)
    card = Card(base_model=base, licence=licence_of(base, source), config=outcome.config, outcome=outcome)
    card.write(adapter, Format.PEFT)
    report.write_json(adapter / report.CONFIG, outcome.config)  # so that the folder says by itself what it is
    config = report.write_json(output_dir / report.CONFIG, outcome.config)
    as_json = report.write_json(output_dir / "report.json", outcome)
    as_markdown = report_page.write(output_dir / "report.md", outcome, previews)
    return job_event_pb2.JobSucceeded(
        adapter_files=keep_folder(course.blobs, adapter),
        training_config=course.blobs.keep(config, config.name),
        report_json=course.blobs.keep(as_json, as_json.name),
        report_markdown=course.blobs.keep(as_markdown, as_markdown.name),
    )
