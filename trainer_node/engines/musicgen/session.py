"""A whole training, from a job to its outcome: check, load, encode, train, write. The same for all kinds."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
import transformers

from trainer_node import checkpoints, config_words, preflight, report
from trainer_node.engines import memory
from trainer_node.engines.musicgen import (
    artefacts,
    callbacks,
    devices,
    examples,
    fingerprints,
    loop,
    processes,
    quiet,
    remedies,
    start,
)
from trainer_node.engines.musicgen.course import Course
from trainer_node.engines.musicgen.features import Stopped
from trainer_node.engines.musicgen.listening import Previews
from trainer_node.engines.musicgen.preparation import Prepared, Settings, prepare
from trainer_node.engines.musicgen.reference import Reference
from trainer_node.engines.musicgen.resuming import open_course, require_same
from trainer_node.engines.musicgen.trainer_state import CommittedState
from trainer_node.training import Blobs, Outcome, StopRequested, Telemetry, TrainingJob
from tunesmith.v1 import job_event_pb2


@dataclass(frozen=True, kw_only=True)
class Parts:
    """What a trainer is built of. arguments: for transformers' TrainingArguments, or a class derived from it."""

    course: Course
    prepared: Prepared
    model: Any
    arguments: dict[str, Any]
    callbacks: list[transformers.TrainerCallback]


@dataclass(frozen=True, kw_only=True)
class Kind:
    """What tells one kind of training from another.

    build: the trainer. needs_reference: whether examples need their log-probabilities under what training starts from.
    metrics: names of what it logs beside the loss.
    """

    build: Callable[[Parts], CommittedState]
    needs_reference: bool = False
    metrics: Sequence[str] = ()


def run(
    job: TrainingJob, telemetry: Telemetry, blobs: Blobs, stop: StopRequested, *, settings: Settings, kind: Kind
) -> Outcome:
    """Train until done or asked to stop; see trainer_node.training.Train. The job's data was checked."""
    quiet.be_quiet()
    device = devices.choose(job.device, settings.training.precision, threads=job.threads)
    processes.meet(device)
    if not processes.is_first():
        telemetry = _Unheard()
    with processes.only_the_first_is_heard(), preflight.disk_full_says_what_to_free(job.output_dir):
        course = open_course(job, telemetry, blobs, stop, keep=settings.checkpoints.keep_checkpoints)
        try:
            prepared = prepare(job, settings, device, stop)
            prepared, model = _begin(job, prepared, settings, kind, stop)
        except Stopped:
            return job_event_pb2.JobCancelled()
        if job.resume_dir:
            require_same(course.progress.identity, prepared.identity)
        course.progress.identity = prepared.identity
        trainer, listening = _trainer(job, course, prepared, settings, kind, model)
        config = _training_config(job, prepared, settings)
        _announce(job, course, config, trainer)
        longest_list = max(len(example.clips) for example in (*prepared.training, *prepared.validation))
        with memory.out_of_memory_names(remedies.smaller_step(settings.training, longest_list=longest_list)):
            trainer.train(resume_from_checkpoint=str(job.resume_dir) if job.resume_dir else None)
        if processes.any_of(stop()) or course.cancelled:
            return job_event_pb2.JobCancelled(checkpoint_step=trainer.saved_now())
        if not processes.is_first():
            return job_event_pb2.JobSucceeded()
        outcome = artefacts.training_report(course, config, trainer.state, metrics=kind.metrics)
        return artefacts.write(job.output_dir, course, trainer.model, outcome, listening.made)


class _Unheard:
    """Telemetry of a process that is not the first."""

    def emit(self, event: job_event_pb2.JobEvent) -> None:
        """Nothing: the first process tells the same."""


def _begin(
    job: TrainingJob, prepared: Prepared, settings: Settings, kind: Kind, stop: StopRequested
) -> tuple[Prepared, Any]:
    """What was prepared, now with the start adapter's part; and the model as it is before the first step."""
    model, adapter = start.begin(job, prepared, settings)
    prepared = replace(prepared, identity={**prepared.identity, "start_adapter": adapter})
    if not kind.needs_reference:
        return prepared, model
    weights = fingerprints.of_values({name: prepared.identity[name] for name in ("base_model", "start_adapter")})
    reference = Reference(
        model, weights=weights, channels=prepared.base.channels, device=prepared.device, cache_dir=job.cache_dir
    )
    with memory.out_of_memory_names(remedies.shorter_clips(settings.training)), processes.first_goes_first():
        training = examples.with_reference(prepared.training, reference, stop)
        validation = examples.with_reference(prepared.validation, reference, stop)
    print(f"scored {reference.cache.computed} of {reference.cache.looked_up} clips for reference", flush=True)
    return replace(prepared, training=training, validation=validation), model


def _trainer(
    job: TrainingJob, course: Course, prepared: Prepared, settings: Settings, kind: Kind, model: Any
) -> tuple[CommittedState, Previews]:
    """The loop with everything hung into it."""
    training = settings.training
    steps_per_epoch = loop.steps_per_epoch(len(prepared.training), training)
    schedule = callbacks.Schedule(
        course,
        steps_per_epoch=steps_per_epoch,
        evaluates=bool(prepared.validation),
        log_every_steps=training.log_every_steps,
        checkpoints=settings.checkpoints,
        patience_epochs=settings.validation.early_stopping_patience_epochs,
    )
    listening = Previews(
        course,
        prepared.base,
        settings.previews,
        codec=prepared.codec,
        steps_per_epoch=steps_per_epoch,
        output_dir=job.output_dir,
    )
    heard = [callbacks.Reporter(course, kind.metrics), listening] if processes.is_first() else []
    trainer = kind.build(
        Parts(
            course=course,
            prepared=prepared,
            model=model,
            arguments=loop.arguments(
                training,
                device=prepared.device,
                total_steps=loop.total_steps(len(prepared.training), training),
                output_dir=job.output_dir / "checkpoints",
            ),
            callbacks=[schedule, *heard],
        )
    )
    if not processes.is_first():
        torch.manual_seed(training.seed + processes.rank())  # what LoRA drops differs; the matrices are the first's
    preflight.require_space(
        job.output_dir,
        trainer.checkpoint_bytes() * (settings.checkpoints.keep_checkpoints + 3),  # the best, one being written, output
        purpose="the checkpoints",
    )
    return trainer, listening


def _training_config(job: TrainingJob, prepared: Prepared, settings: Settings) -> job_event_pb2.TrainingConfig:
    together = f"{processes.count()} × " if processes.count() > 1 else ""
    return job_event_pb2.TrainingConfig(
        run_id=job.job.run_id,
        attempt=job.job.attempt,
        dataset_version_id=job.job.dataset_version_id,
        dataset_digest=job.job.dataset_digest,
        spec=job.job.spec,
        base_model_fingerprint=prepared.identity["base_model"],
        device=f"{together}{prepared.device}",
        training_samples=len(prepared.training),
        validation_samples=len(prepared.validation),
        total_steps=loop.total_steps(len(prepared.training), settings.training),
        packages=report.packages(report.ADAPTER_PACKAGES),
        lineage=job.job.start_adapter.lineage,
        derivation=job.job.derivation if job.job.HasField("derivation") else None,
    )


def _announce(job: TrainingJob, course: Course, config: job_event_pb2.TrainingConfig, trainer: CommittedState) -> None:
    """JobStarted: everything is loaded."""
    started = job_event_pb2.JobStarted(
        total_steps=config.total_steps,
        total_epochs=int(trainer.args.num_train_epochs),
        training_samples=config.training_samples,
        validation_samples=config.validation_samples,
        resumed_step=checkpoints.step_of(job.resume_dir) if job.resume_dir else 0,
        device=config.device,
        trainable_parameters=trainer.trainable_parameters(),
    )
    course.telemetry.emit(job_event_pb2.JobEvent(started=started))
    print(
        f"training on {config_words.data(config)}, {config.total_steps} steps, "
        f"{started.trainable_parameters:,} trainable parameters, on {config.device}",
        flush=True,
    )
