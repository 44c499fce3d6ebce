"""The training as a stage: the loop of `pretrain`, what it tells on its way, and the files that it leaves."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from trainer_node.checkpoints import CheckpointFolder, checkpoints, latest, step_of
from trainer_node.durable import replace_file
from trainer_node.engines.tinylm import artefacts, beginning, heads, layout, model, pretrain, sealed, speed, windows
from trainer_node.engines.tinylm.corpus import Corpus
from trainer_node.engines.tinylm.model import TinyTransformer
from trainer_node.engines.tinylm.plan import BYTES_PER_NUMBER, CHECKPOINT_COPIES, Plan, parameters_of
from trainer_node.engines.tinylm.ports import Beginning, Ports, Pretrained
from trainer_node.engines.tinylm.progress import EpochSummary, Progress
from trainer_node.engines.tinylm.settings import TELLING_ONLY, ModelSettings
from trainer_node.engines.tinylm.stages import CODE, Made, Stages, code_of
from trainer_node.engines.tinylm.telling import TextSample, preview_of
from trainer_node.engines.tinylm.text_stages import Tokenized
from trainer_node.engines.tinylm.tokenizer import Tokenizer
from trainer_node.engines.tinylm.trained import continuation
from trainer_node.errors import DiskFull
from trainer_node.stop_signal import Stopped
from trainer_node.training import Blobs, keep_folder
from tunesmith.v1 import job_event_pb2


@dataclass(frozen=True)
class Prepared:
    """What is ready before a training begins. begun: see pipeline.run."""

    plan: Plan
    stages: Stages
    blobs: Blobs
    corpus: Corpus
    tokenizer: Tokenizer
    tokens: Tokenized
    begun: Callable[[], None]

    @property
    def source(self) -> str:
        """Where the corpus came from: that of the plan, or `synthetic` where a download failed."""
        return str(self.stages.inputs_before(layout.CORPUS)["source"])


def trained(prepared: Prepared) -> Mapping[str, Any]:
    """The training: best_model.pt, final_model.pt, training_history.json. Returns the history.

    Raises what `pretrain` raises, and Stopped, with the checkpoint that it goes on from where a step was taken.
    """
    plan, output = prepared.plan, prepared.plan.output_dir
    shape, settings = plan.shape(prepared.tokenizer.vocab_size), plan.pretraining()
    decisive = {key: value for key, value in asdict(settings).items() if key not in TELLING_ONLY}
    inputs = {
        "tokens": prepared.tokens.digest,
        "tokenizer": prepared.tokenizer.fingerprint,
        "settings": {**asdict(shape), **decisive},
        CODE: code_of(model, heads, pretrain, beginning, speed, windows),
        "torch": metadata.version("torch"),
    }

    def make() -> Made:
        with _room(prepared, shape):
            done = pretrain.pretrain(
                prepared.tokens.text,
                shape,
                settings,
                CheckpointFolder(output / layout.CHECKPOINTS, keep=plan.lm.checkpoints.keep_checkpoints),
                resume=plan.resume_dir,
                ports=_Telling(prepared).ports(),
            )
            if not done.finished:
                raise Stopped
            return _left(prepared, done, shape)

    return prepared.stages.settle(
        *(layout.TRAINING, inputs, make, lambda _: history_of(output)),
        rested_on=plan.resume_dir is None,  # a finished one, of which no checkpoint is left
        anew=plan.restart,
    )


def history_of(folder: Path) -> dict[str, Any]:
    """The training history of a finished training."""
    history: dict[str, Any] = json.loads((folder / layout.HISTORY).read_text(encoding="utf-8"))
    history.setdefault("device", f"cpu {history['arithmetic'].partition(',')[0]}")  # older ones do not tell it
    return history


def discard(folder: Path) -> None:
    """Remove a training, its models and what was told of it; the text, the tokenizer and the tokens stay."""
    for name in (layout.record_of(layout.TRAINING), *layout.MODELS, layout.HISTORY, *layout.REPORT_FILES):
        (folder / name).unlink(missing_ok=True)
    for old in (*checkpoints(folder / layout.CHECKPOINTS), folder / layout.SAMPLES):
        shutil.rmtree(old, ignore_errors=True)


def samples_before(folder: Path) -> list[TextSample]:
    """The texts that were sampled while the model trained, oldest first."""
    rows = []
    for path in sorted((folder / layout.SAMPLES).glob("epoch-*.json")):
        rows += [TextSample(**row) for row in json.loads(path.read_text(encoding="utf-8"))]
    return rows


def _left(prepared: Prepared, done: Pretrained, shape: ModelSettings) -> Made:
    """Both models and the history, in the output folder."""
    output, progress = prepared.plan.output_dir, done.progress
    about: dict[str, artefacts.Plain] = {
        "tokenizer": prepared.tokenizer.fingerprint,
        "corpus": prepared.corpus.digest,
        "seed": prepared.plan.lm.training.seed,
        "synthetic": prepared.source == "synthetic",
    }
    best = progress.best_epoch or progress.epoch
    rows = {row.epoch: row for row in progress.history}
    for name, weights, epoch in (
        (layout.BEST, done.best, best),
        (layout.FINAL, done.model.state_dict(), progress.epoch),
    ):
        row = rows[epoch]
        losses = {"train_loss": row.train_loss, "validation_loss": row.validation_loss}
        ordered = {tensor: weights[tensor].clone() for tensor in sorted(weights)}  # of a checkpoint: in another order
        artefacts.save(output / name, ordered, shape, {**about, "epoch": epoch, "step": row.step, **losses})
    arithmetic = speed.Arithmetic(progress.bf16, progress.shards)
    history = {
        "epochs": [asdict(row) for row in progress.history],
        "untrained_validation_loss": progress.untrained_loss,
        "best_epoch": best,
        "best_step": rows[best].step,
        "stopped_early": progress.stopped_early,
        "arithmetic": str(arithmetic),
        "device": arithmetic.device,
        "parameters": sum(tensor.numel() for tensor in done.model.parameters()),
    }
    replace_file(output / layout.HISTORY, (json.dumps(history, indent=1) + "\n").encode())
    last = progress.history[-1]
    held = "" if last.validation_loss is None else f", validation {rows[best].validation_loss:.4f} (epoch {best})"
    epochs = "1 epoch" if progress.epoch == 1 else f"{progress.epoch} epochs"
    said = f"{epochs}, {progress.step:,} steps; loss {last.train_loss:.4f}{held}"
    return Made(said, [*layout.MODELS, layout.HISTORY])


@contextmanager
def _room(prepared: Prepared, shape: ModelSettings) -> Iterator[None]:
    """A disk that is full says how much to free, and that nothing is lost."""
    output = prepared.plan.output_dir
    try:
        with sealed.room(output):
            yield
    except DiskFull as full:
        needed_mb = 2 * CHECKPOINT_COPIES * BYTES_PER_NUMBER * parameters_of(shape) / 1e6
        kept = latest(output / layout.CHECKPOINTS)
        go_on = "resume the run" if prepared.plan.is_of_a_run else "go on with --resume"
        again = "create the run again" if prepared.plan.is_of_a_run else "run it again"
        after = f"{go_on}: the checkpoint of step {step_of(kept)} is whole" if kept else again
        raise DiskFull(
            f"there is no room left on the disk of {output}; free at least {max(1.0, needed_mb):,.0f} MB there, then "
            f"{after}"
        ) from full


def sampled_texts(prepared: Prepared, network: TinyTransformer, *, epoch: int, step: int) -> list[TextSample]:
    """What a model of this epoch and step writes, each text told as it is there. Raises Stopped."""
    plan, listener = prepared.plan, prepared.stages.listener
    sampling, rows = plan.sampling(), []
    for place, prompt in enumerate(plan.prompts):
        text = continuation(network, prepared.tokenizer, prompt, sampling, stop=prepared.stages.stop)
        rows.append(TextSample(epoch, step, prompt, text))
        listener.sampled(rows[-1])
        listener.event(preview_of(rows[-1], place=place, seed=sampling.seed))
    return rows


class _Telling:
    """What a training tells, on its way to the listener and, as events, to whoever follows a job."""

    def __init__(self, prepared: Prepared) -> None:
        self.prepared, self.plan, self.listener = prepared, prepared.plan, prepared.stages.listener
        self.epochs, self.total_steps = prepared.plan.pretraining().epochs, 0

    def ports(self) -> Ports:
        """Where the training is heard."""
        return Ports(
            begins=self.begins,
            metrics=self.metrics,
            epoch_ended=self.epoch_ended,
            saved=self.saved,
            sample=self.sample,
            sampled=lambda progress: self.samples(progress).is_file(),
            stop=self.prepared.stages.stop,
        )

    def begins(self, beginning: Beginning) -> None:
        """The training's outline."""
        resumed = self.plan.resume_dir
        if self.plan.restart:
            discard(self.plan.output_dir)  # now that the text and the settings have proven to be usable
        if self.plan.restart or self.plan.going_on:
            self.prepared.begun()
        self.total_steps = beginning.total_steps
        started = job_event_pb2.JobStarted(
            total_steps=beginning.total_steps,
            total_epochs=self.epochs,
            training_samples=self.prepared.corpus.training_paragraphs,
            validation_samples=self.prepared.corpus.validation_paragraphs,
            resumed_step=step_of(resumed) if resumed else 0,
            device=beginning.arithmetic.device,
            trainable_parameters=beginning.parameters,
        )
        self.listener.event(job_event_pb2.JobEvent(started=started))
        self.listener.say(beginning.said)

    def metrics(self, step: int, values: Mapping[str, float]) -> None:
        """A row."""
        self.listener.event(_row(step, values))

    def epoch_ended(self, summary: EpochSummary) -> None:
        """A row, and a line for people."""
        facts = {"epoch": summary.epoch, "epoch_loss": summary.train_loss, "epoch_s": summary.seconds}
        self.metrics(summary.step, facts)
        self.listener.epoch(summary, self.epochs)

    def saved(self, checkpoint: Path, progress: Progress) -> None:
        """A checkpoint, whose files are kept as blobs."""
        fresh = progress.history[-1] if progress.history and not progress.position else None
        event = job_event_pb2.CheckpointSaved(
            step=progress.step,
            epoch=progress.step * self.epochs / self.total_steps,
            eval_loss=fresh.validation_loss if fresh else None,
            best=bool(progress.step == progress.best_step),
            files=keep_folder(self.prepared.blobs, checkpoint),
        )
        self.listener.event(job_event_pb2.JobEvent(checkpoint_saved=event))

    def sample(self, network: TinyTransformer, progress: Progress) -> None:
        """What the model writes as it is, kept for the report."""
        rows = sampled_texts(self.prepared, network, epoch=progress.epoch, step=progress.step)
        path = self.samples(progress)
        path.parent.mkdir(exist_ok=True)
        content = json.dumps([asdict(row) for row in rows], indent=1, ensure_ascii=False) + "\n"
        replace_file(path, content.encode())

    def samples(self, progress: Progress) -> Path:
        """Where the samples of an epoch are kept."""
        return self.plan.output_dir / layout.SAMPLES / f"epoch-{progress.epoch:05d}.json"


def _row(step: int, values: Mapping[str, float]) -> job_event_pb2.JobEvent:
    """One row of metrics."""
    batch = job_event_pb2.MetricBatch(
        names=list(values), steps=[step], times_us=[time.time_ns() // 1000], values=[float(v) for v in values.values()]
    )
    return job_event_pb2.JobEvent(metrics=batch)
