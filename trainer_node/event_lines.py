"""Events as plain `key=value` lines, for a terminal that is none and for logs."""

from __future__ import annotations

from collections.abc import Iterator

from tunesmith.v1 import job_event_pb2


def lines_of(event: job_event_pb2.JobEvent) -> Iterator[str]:
    """The lines that tell an event; log lines as they are."""
    match event.WhichOneof("event"):
        case "started":
            started = event.started
            yield (
                f"event=started total_steps={started.total_steps} epochs={started.total_epochs} "
                f"training_samples={started.training_samples} validation_samples={started.validation_samples} "
                f"resumed_step={started.resumed_step} device={_quoted(started.device)} "
                f"trainable_parameters={started.trainable_parameters}"
            )
        case "metrics":
            yield from _metric_lines(event.metrics)
        case "logs":
            yield from event.logs.lines
        case "checkpoint_saved":
            saved = event.checkpoint_saved
            loss = f" eval_loss={saved.eval_loss:.6g}" if saved.HasField("eval_loss") else ""
            yield f"event=checkpoint step={saved.step} epoch={saved.epoch:g}{loss} best={str(saved.best).lower()}"
        case "preview_saved":
            preview = event.preview_saved
            made = f"text={_quoted(preview.text)}" if preview.text else f"file={preview.file.path}"
            yield f"event=preview step={preview.step} prompt={_quoted(preview.prompt)} {made}"
        case "finished":
            yield _end_line(event.finished)


def _metric_lines(batch: job_event_pb2.MetricBatch) -> Iterator[str]:
    width = len(batch.names)
    for row, step in enumerate(batch.steps):
        values = batch.values[row * width : (row + 1) * width]
        yield " ".join(
            [f"step={step}", *(f"{name}={value:.6g}" for name, value in zip(batch.names, values, strict=True))]
        )


def _end_line(end: job_event_pb2.JobFinished) -> str:
    if end.HasField("failed"):
        return f"event=failed reason={end.failed.reason} message={_quoted(end.failed.message)}"
    if end.HasField("cancelled"):
        return f"event=stopped checkpoint_step={end.cancelled.checkpoint_step}"
    return "event=succeeded"


def _quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n") + '"'
