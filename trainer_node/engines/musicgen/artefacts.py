"""What a successful training leaves: the adapter as a plain PEFT folder, its configuration and its report."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import Tensor

from trainer_node import report
from trainer_node.engines.musicgen.course import Course
from trainer_node.engines.musicgen.trainer_state import adapter_tensors, write_adapter
from trainer_node.training import keep_folder
from tunesmith.v1 import job_event_pb2

CARD = """---
base_model: {base}
library_name: peft
{licence}tags: [musicgen, lora, text-to-audio]
---

# A MusicGen adapter

LoRA matrices for the decoder of `{base}`, trained with Tunesmith: {steps} steps, {samples} samples, loss {loss:.4f}
nats a token. `training_config.json` and the report of the training tell everything that decided them.

To hear it (`base_model`: a Hugging Face id, or the path of a folder):

```python
import soundfile
from peft import PeftModel
from transformers import AutoTokenizer, MusicgenForConditionalGeneration

base_model = "{base}"
base = MusicgenForConditionalGeneration.from_pretrained(base_model)
model = PeftModel.from_pretrained(base, "this/folder")

prompt = AutoTokenizer.from_pretrained(base_model)(["slow piano in a minor key"], return_tensors="pt")
sound = model.generate(**prompt, do_sample=True, guidance_scale=3, max_new_tokens=500)  # about 50 a second
soundfile.write("slow-piano.wav", sound[0].numpy().T, base.config.audio_encoder.sampling_rate)
```

## Licence

The weights of Meta's MusicGen models (`facebook/musicgen-*`) are under CC-BY-NC 4.0. An adapter trained on them is
made to be used with them, so only non-commercially. Respect the rights in the recordings that it was trained on, too.
"""


def final_adapter(course: Course, model: Any) -> dict[str, Tensor]:
    """The adapter with the lowest validation loss; the last one where nothing was held out."""
    return course.best_adapter if course.best_adapter is not None else adapter_tensors(model)


def training_report(
    course: Course, config: job_event_pb2.TrainingConfig, *, history: list[dict[str, float]], steps: int, epochs: float
) -> job_event_pb2.TrainingReport:
    """The report from the Trainer's log of the whole training, that before a resume included."""
    losses = [(int(row["step"]), row["loss"]) for row in history if "loss" in row]
    evaluations = [(int(row["step"]), row["eval_loss"]) for row in history if "eval_loss" in row]
    final_loss = losses[-1][1] if losses else float("nan")
    progress = course.progress
    return job_event_pb2.TrainingReport(
        config=config,
        final_loss=final_loss,
        best_loss=final_loss if progress.best_loss is None else progress.best_loss,
        best_step=steps if progress.best_loss is None else progress.best_step,
        steps=steps,
        epochs=epochs,
        stopped_early=progress.stopped_early,
        training_time_s=course.training_time_s(),
        training_loss=report.curve(losses),
        validation_loss=report.curve(evaluations),
        environment=report.environment(),
    )


def write(
    output_dir: Path,
    course: Course,
    model: Any,
    outcome: job_event_pb2.TrainingReport,
    previews: list[report.PreviewFile],
) -> job_event_pb2.JobSucceeded:
    """Write everything into the output folder and keep it as blobs."""
    adapter = output_dir / "adapter"
    write_adapter(adapter, model, final_adapter(course, model))
    base = model.peft_config["default"].base_model_name_or_path
    licence = "license: cc-by-nc-4.0\n" if base.startswith("facebook/musicgen") else ""
    card = CARD.format(
        base=base,
        licence=licence,
        steps=outcome.best_step,
        samples=outcome.config.training_samples,
        loss=outcome.best_loss,
    )
    (adapter / "README.md").write_text(card, encoding="utf-8")
    config = report.write_json(output_dir / "training_config.json", outcome.config)
    as_json = report.write_json(output_dir / "report.json", outcome)
    as_markdown = report.write_markdown(output_dir / "report.md", outcome, previews)
    return job_event_pb2.JobSucceeded(
        adapter_files=keep_folder(course.blobs, adapter),
        training_config=course.blobs.keep(config, config.name),
        report_json=course.blobs.keep(as_json, as_json.name),
        report_markdown=course.blobs.keep(as_markdown, as_markdown.name),
    )
