"""A whole training, from a job to its outcome: check, load, encode, train, write. The same for every method."""

from __future__ import annotations

import warnings
from collections.abc import Callable

import transformers

from trainer_node import checkpoints, preflight, report
from trainer_node.engines.musicgen import artefacts, callbacks, family, loop, memory
from trainer_node.engines.musicgen.course import Course
from trainer_node.engines.musicgen.features import Stopped
from trainer_node.engines.musicgen.listening import Previews
from trainer_node.engines.musicgen.preparation import Prepared, Settings, prepare
from trainer_node.engines.musicgen.resuming import open_course, require_same
from trainer_node.training import Blobs, Outcome, StopRequested, Telemetry, TrainingJob
from tunesmith.v1 import job_event_pb2


def run(
    job: TrainingJob,
    telemetry: Telemetry,
    blobs: Blobs,
    stop: StopRequested,
    *,
    settings: Settings,
    method: Callable[[int], loop.Method],
) -> Outcome:
    """Train until done or asked to stop; see trainer_node.training.Train. method: from the number of channels."""
    _be_quiet()
    with preflight.disk_full_says_what_to_free(job.output_dir):
        course = open_course(job, telemetry, blobs, stop, keep=settings.checkpoints.keep_checkpoints)
        try:
            prepared = prepare(job, settings, stop)
        except Stopped:
            return job_event_pb2.JobCancelled()
        if job.resume_dir:
            require_same(course.progress.identity, prepared.identity)
        course.progress.identity = prepared.identity
        trainer, listening = _trainer(job, course, prepared, settings, method(prepared.base.channels))
        config = _training_config(job, prepared, loop.total_steps(len(prepared.training), settings.training))
        _announce(job, course, config, trainer)
        with memory.out_of_memory_names(memory.smaller_step(settings.training)):
            trainer.train(resume_from_checkpoint=str(job.resume_dir) if job.resume_dir else None)
        if stop() or course.cancelled:
            return job_event_pb2.JobCancelled(checkpoint_step=trainer.saved_now())
        state = trainer.state
        outcome = artefacts.training_report(
            course, config, history=state.log_history, steps=state.global_step, epochs=state.epoch or 0.0
        )
        return artefacts.write(job.output_dir, course, trainer.model, outcome, listening.made)


def _be_quiet() -> None:
    """Leave standard error to what a user of this program can act on."""
    transformers.utils.logging.set_verbosity_error()
    warnings.filterwarnings("ignore", category=FutureWarning, module=r"(transformers|peft|accelerate|torch)\b")


def _trainer(
    job: TrainingJob, course: Course, prepared: Prepared, settings: Settings, method: loop.Method
) -> tuple[loop.AdapterTrainer, Previews]:
    """The loop with everything hung into it."""
    training = settings.training
    transformers.set_seed(training.seed)
    model = family.add_lora(prepared.base, settings.adapter, dtype=prepared.device.dtype)
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
        course, prepared.base, settings.previews, steps_per_epoch=steps_per_epoch, output_dir=job.output_dir
    )
    trainer = loop.AdapterTrainer(
        method,
        course=course,
        model=model,
        args=loop.arguments(
            training,
            device=prepared.device,
            total_steps=loop.total_steps(len(prepared.training), training),
            output_dir=job.output_dir / "checkpoints",
        ),
        train_dataset=prepared.training,
        eval_dataset=prepared.validation or None,
        callbacks=[schedule, callbacks.Reporter(course), listening],
    )
    preflight.require_space(
        job.output_dir,
        trainer.checkpoint_bytes() * (settings.checkpoints.keep_checkpoints + 3),  # the best, one being written, output
        purpose="the checkpoints",
    )
    return trainer, listening


def _training_config(job: TrainingJob, prepared: Prepared, total_steps: int) -> job_event_pb2.TrainingConfig:
    return job_event_pb2.TrainingConfig(
        run_id=job.job.run_id,
        attempt=job.job.attempt,
        dataset_version_id=job.job.dataset_version_id,
        dataset_digest=job.job.dataset_digest,
        spec=job.job.spec,
        base_model_fingerprint=prepared.identity["base_model"],
        device=str(prepared.device),
        training_samples=len(prepared.training),
        validation_samples=len(prepared.validation),
        total_steps=total_steps,
        packages=report.packages(),
    )


def _announce(
    job: TrainingJob, course: Course, config: job_event_pb2.TrainingConfig, trainer: loop.AdapterTrainer
) -> None:
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
        f"training {config.training_samples} samples, {config.validation_samples} held out, {config.total_steps} "
        f"steps, {started.trainable_parameters:,} trainable parameters, on {config.device}",
        flush=True,
    )
