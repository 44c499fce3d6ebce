"""The report as a stage: pages for people, the contract's messages for programs, and what a job hands over."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from trainer_node import config_words, markdown, report
from trainer_node.durable import replace_file
from trainer_node.engines.tinylm import layout, loss_curve, report_page, sealed, tokenizer
from trainer_node.engines.tinylm.report_page import Findings
from trainer_node.engines.tinylm.stages import CODE, Made, code_of
from trainer_node.engines.tinylm.telling import TextSample
from trainer_node.engines.tinylm.training_stage import Prepared, samples_before
from tunesmith.v1 import blob_pb2, job_event_pb2

REPORT = "report"


def reported(
    prepared: Prepared,
    history: Mapping[str, Any],
    validation: Mapping[str, Any],
    best_samples: Sequence[TextSample],
) -> job_event_pb2.JobSucceeded:
    """Write the report, and hand over everything that was made."""
    output = prepared.plan.output_dir
    findings = Findings(
        history=history,
        validation=validation,
        settings=_settings(prepared),
        corpus=prepared.corpus,
        source=prepared.source,
        samples=samples_before(output),
        best_samples=best_samples,
        environment={**report.environment(), **report.packages(report.LANGUAGE_MODEL_PACKAGES)},
        run_id=prepared.plan.job.run_id,
    )
    inputs = {
        "history": sealed.sha256_of(output / layout.HISTORY),
        "validation": validation,
        "samples": [sample.text for sample in (*findings.samples, *best_samples)],
        "settings": findings.settings,
        CODE: code_of(report_page, markdown, loss_curve),
    }

    def make() -> Made:
        pages = {
            layout.PAGE: report_page.page(findings),
            layout.CARD: report_page.card(findings),
            layout.CURVE: _curve(findings),
        }
        config = _config(prepared, findings)
        with sealed.room(output):
            for name, text in pages.items():
                replace_file(output / name, text.encode())
            report.write_json(output / layout.TRAINING_CONFIG, config)
            report.write_json(output / layout.REPORT_JSON, _report(findings, config))
        return Made(layout.PAGE, layout.REPORT_FILES)

    prepared.stages.settle(REPORT, inputs, make, lambda _: None)
    return _handed_over(prepared)


def _settings(prepared: Prepared) -> Mapping[str, str]:
    """Those in force; where text was given, none says where else it would have come from."""
    settings = config_words.settings(prepared.plan.lm)
    left_out = ("corpus.corpus_source",) if prepared.plan.source == "files" else ()
    return {name: value for name, value in settings.items() if name not in left_out}


def _handed_over(prepared: Prepared) -> job_event_pb2.JobSucceeded:
    """All that the training was for, kept as blobs."""
    output, blobs = prepared.plan.output_dir, prepared.blobs

    def keep(name: str) -> blob_pb2.File:
        return blobs.keep(output / name, name)

    pieces = [f"{layout.TOKENIZER}/{name}" for name in tokenizer.FILES]
    model_files = sorted([*layout.MODELS, layout.HISTORY, layout.CARD, layout.CURVE, *pieces])
    return job_event_pb2.JobSucceeded(
        model_files=[keep(name) for name in model_files],
        training_config=keep(layout.TRAINING_CONFIG),
        report_json=keep(layout.REPORT_JSON),
        report_markdown=keep(layout.PAGE),
    )


def _curve(findings: Findings) -> str:
    return loss_curve.svg(report_page.curves(findings), title="Loss by epoch", x_label="epoch", y_label="nats a token")


def _config(prepared: Prepared, findings: Findings) -> job_event_pb2.TrainingConfig:
    job, corpus = prepared.plan.job, prepared.corpus
    return job_event_pb2.TrainingConfig(
        run_id=job.run_id,
        attempt=job.attempt,
        dataset_digest=corpus.digest,
        spec=job.spec,
        device=findings.history["device"],
        training_samples=corpus.training_paragraphs,
        validation_samples=corpus.validation_paragraphs,
        total_steps=findings.epochs[-1]["step"],
        packages=report.packages(report.LANGUAGE_MODEL_PACKAGES),
    )


def _report(findings: Findings, config: job_event_pb2.TrainingConfig) -> job_event_pb2.TrainingReport:
    rows, history = findings.epochs, findings.history
    held = [(row["step"], row["validation_loss"]) for row in rows if row["validation_loss"] is not None]
    best = rows[history["best_epoch"] - 1]
    whole = findings.validation["all"] or {}
    return job_event_pb2.TrainingReport(
        config=config,
        final_loss=rows[-1]["train_loss"],
        best_loss=best["train_loss"] if best["validation_loss"] is None else best["validation_loss"],
        best_step=best["step"],
        steps=rows[-1]["step"],
        epochs=len(rows),
        stopped_early=history["stopped_early"],
        training_time_s=sum(row["seconds"] for row in rows),
        training_loss=report.curve([(row["step"], row["train_loss"]) for row in rows]),
        validation_loss=report.curve(held),
        environment=report.environment(),
        final_metrics={name: whole[name] for name in ("perplexity", "bits_per_character") if name in whole},
    )
