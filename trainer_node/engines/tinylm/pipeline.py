"""The pipeline of a language model, from nothing to a report: eight stages, each done once.

output/config.yaml                                 the settings in force
output/{texts,corpus,tokenizer,tokens,samples}/    what stages work from
output/checkpoints/step-…/                         where a training goes on from
output/best_model.pt, final_model.pt, training_history.json
output/report.md, loss.svg, README.md, report.json, training_config.json
output/stages/<name>.json                          what each stage was made of (see `stages`)
"""

from __future__ import annotations

from collections.abc import Callable
from time import perf_counter

from trainer_node import preflight
from trainer_node.checkpoints import latest, step_of
from trainer_node.engines.tinylm import layout, report_stage, speed, text_stages, training_stage, trial_stages
from trainer_node.engines.tinylm.interruptible import nothing
from trainer_node.engines.tinylm.plan import Plan
from trainer_node.engines.tinylm.stages import Stages
from trainer_node.engines.tinylm.telling import LineListener, Listener, StageEnd
from trainer_node.engines.tinylm.training_stage import Prepared
from trainer_node.stop_signal import Stopped
from trainer_node.training import Blobs, Outcome, StopRequested, Telemetry, TrainingJob
from tunesmith.v1 import job_event_pb2

PREFLIGHT = "preflight"
TEXTS = "texts"  # of a node's cache
STAGES = (
    *(PREFLIGHT, layout.CORPUS, layout.TOKENIZER, layout.TOKENS),
    *(layout.TRAINING, trial_stages.VALIDATION, trial_stages.SAMPLES, report_stage.REPORT),
)


def train(job: TrainingJob, telemetry: Telemetry, blobs: Blobs, stop: StopRequested) -> Outcome:
    """Make a language model as a job; see trainer_node.training.Train.

    A training that goes on keeps the shards that it began with, on a node with more or fewer threads as well.
    """
    folder = job.corpus_paths[0] if len(job.corpus_paths) == 1 else None
    plan = Plan(
        job=job.job,
        output_dir=job.output_dir,
        cache_dir=job.cache_dir / TEXTS,
        corpus_paths=job.corpus_paths,
        corpus_root=folder,
        resume_dir=job.resume_dir,
        threads=min(job.threads, speed.MAX_SHARDS) if job.threads and not job.resume_dir else None,
    )
    listener = LineListener(lambda line: print(line, flush=True), telemetry.emit)
    with preflight.disk_full_says_what_to_free(job.output_dir):
        return run(plan, listener, blobs, stop)


def run(
    plan: Plan, listener: Listener, blobs: Blobs, stop: StopRequested, *, begun: Callable[[], None] = nothing
) -> Outcome:
    """All stages. Returns JobCancelled where a stop was asked for, with the step of the checkpoint, if any.

    begun: called once it is certain that these settings are trained with: after the preflight, or, where there is a
    training that goes on or has to go, when the first step is about to be taken. Raises every TunesmithError of the
    parts.
    """
    stages = Stages(plan.output_dir, listener, stop, going_on=plan.going_on)
    listener.planned(STAGES)
    try:
        _check(plan, stages)
        if not (plan.going_on or plan.restart):
            begun()
        corpus = text_stages.prepared(plan, stages)
        pieces = text_stages.trained_tokenizer(plan, stages, corpus)
        tokens = text_stages.tokenized(plan, stages, corpus, pieces)
        prepared = Prepared(plan, stages, blobs, corpus, pieces, tokens, begun)
        history = training_stage.trained(prepared)
        validation = trial_stages.validated(prepared)
        samples = trial_stages.sampled(prepared)
        return report_stage.reported(prepared, history, validation, samples)
    except Stopped:
        kept = latest(plan.output_dir / layout.CHECKPOINTS)
        return job_event_pb2.JobCancelled(checkpoint_step=step_of(kept) if kept else 0)


def _check(plan: Plan, stages: Stages) -> None:
    """The preflight, which is done every time: a disk fills up between two."""
    stages.listener.began(PREFLIGHT, "")
    begun = perf_counter()
    said = text_stages.check(plan, stages)
    stages.listener.ended(StageEnd(PREFLIGHT, said, perf_counter() - begun, unchanged=False))
