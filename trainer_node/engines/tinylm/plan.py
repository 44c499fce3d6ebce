"""What a pipeline is to do: the contract's TinyLmSpec and the places it works in, read into the parts' settings."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from trainer_node.engines.tinylm import synthetic
from trainer_node.engines.tinylm.settings import HeadKind, ModelSettings, Precision, PretrainSettings, SamplingSettings
from tunesmith.v1 import job_spec_pb2, trainer_pb2

Source = Literal["files", "download", "synthetic"]
BYTES_PER_NUMBER = 4
CHECKPOINT_COPIES = 4  # of the weights: themselves, two moments, the best ones
PROMPTS = ("The old man", "She said that", "El viejo", "Ella dijo que")  # two in each language of the built-in corpora
_PRECISIONS: dict[int, Precision] = {job_spec_pb2.PRECISION_FP32: "fp32", job_spec_pb2.PRECISION_BF16: "bf16"}
_HEADS: dict[int, HeadKind] = {job_spec_pb2.LM_HEAD_PLAIN: "plain"}


@dataclass(frozen=True, kw_only=True)
class Plan:
    """A language model to make.

    job: with its spec resolved, of the kind tiny_lm; its ids may be empty. corpus_paths: files and folders with text;
    none takes the spec's built-in corpus. corpus_root: messages name texts from there on. may_fall_back: where the
    download fails, train on the synthetic corpus instead. resume_dir: a committed checkpoint to go on from. resumes: go
    on with what is there, and begin nothing again that was begun. restart: a training that is there goes. threads: of
    the training; None leaves it to the machine. cache_dir: for downloads.
    """

    job: trainer_pb2.Job
    output_dir: Path
    cache_dir: Path
    corpus_paths: Sequence[Path] = ()
    corpus_root: Path | None = None
    may_fall_back: bool = False
    resume_dir: Path | None = None
    resumes: bool = False
    restart: bool = False
    threads: int | None = None
    synthetic_bytes: int = synthetic.SIZE_BYTES

    @property
    def lm(self) -> job_spec_pb2.TinyLmSpec:
        """The settings."""
        return self.job.spec.tiny_lm

    @property
    def is_of_a_run(self) -> bool:
        """Whether a control plane knows of it, or only a person at a terminal."""
        return bool(self.job.run_id)

    @property
    def going_on(self) -> bool:
        """Whether what is there must stay as it is."""
        return self.resumes or self.resume_dir is not None

    @property
    def source(self) -> Source:
        """Where the text comes from."""
        if self.corpus_paths:
            return "files"
        wanted = self.lm.corpus.corpus_source
        return "synthetic" if wanted == job_spec_pb2.CORPUS_SOURCE_SYNTHETIC else "download"

    @property
    def prompts(self) -> Sequence[str]:
        """What samples begin with."""
        return tuple(self.lm.samples.sample_prompts) or PROMPTS

    def shape(self, vocab_size: int) -> ModelSettings:
        """The network over so many pieces. Raises InvalidField where its parts do not fit together."""
        model = self.lm.model
        return ModelSettings(
            vocab_size=vocab_size,
            max_seq_length=model.max_seq_length,
            layers=model.layers,
            d_model=model.d_model,
            heads=model.heads,
            ffn=model.ffn,
            dropout=model.dropout,
            head=_HEADS.get(model.head, "tree"),
        )

    def pretraining(self) -> PretrainSettings:
        """How it is trained."""
        training, saved = self.lm.training, self.lm.checkpoints
        return PretrainSettings(
            epochs=training.epochs,
            batch_size=training.batch_size,
            learning_rate=training.learning_rate,
            warmup_steps=training.warmup_steps,
            weight_decay=training.weight_decay,
            max_grad_norm=training.max_grad_norm,
            seed=training.seed,
            log_every_steps=training.log_every_steps,
            checkpoint_every_epochs=saved.checkpoint_every_epochs,
            checkpoint_every_steps=saved.checkpoint_every_steps,
            sample_every_epochs=self.lm.samples.sample_every_epochs,
            patience_epochs=self.lm.validation.early_stopping_patience_epochs,
            precision=_PRECISIONS.get(training.precision, "auto"),
            shards=self.threads or 0,
        )

    def sampling(self) -> SamplingSettings:
        """How text is sampled, now and at the end: the same seed throughout, so that the model alone makes the
        difference."""
        samples = self.lm.samples
        return SamplingSettings(
            max_tokens=samples.sample_tokens,
            temperature=samples.temperature,
            top_k=samples.top_k,
            seed=self.lm.training.seed,
        )


def words_of(source: str) -> str:
    """A source as people call it."""
    return {
        "files": "your own files",
        "download": "works in the public domain",
        "synthetic": "SYNTHETIC text, written by a program",
    }[source]


def parameters_of(shape: ModelSettings) -> int:
    """Roughly how many numbers a network has: enough to say how much room it takes."""
    d = shape.d_model
    block = 4 * d * d + 2 * d * shape.ffn + 9 * d + shape.ffn
    return 2 * shape.vocab_size * (d + 1) + shape.max_seq_length * d + shape.layers * block + 2 * d
