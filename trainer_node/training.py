"""What a training is given and what it gives back: the seam between an engine and whoever runs it.

An engine is a function `train(job, telemetry, blobs, stop)`. It neither knows whether a control plane exists nor where
its events go; whoever calls it (the child process of a node, or a command in the foreground) provides `Telemetry`,
`Blobs` and `stop`. A failure is an exception of `trainer_node.errors`; anything else that is raised is a bug.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from tunesmith.v1 import blob_pb2, job_event_pb2, trainer_pb2


@dataclass(frozen=True, kw_only=True)
class TrainingSample:
    """One clip of the frozen data set. audio_path: a local file whose bytes have the SHA-256 `audio_digest`."""

    prompt: str
    audio_path: Path
    audio_digest: str
    rating: float | None = None


@dataclass(frozen=True, kw_only=True)
class TrainingClip:
    """A clip of a comparison. audio_path: as of a sample. rank: 1 is the best; clips of one rank are tied."""

    audio_path: Path
    audio_digest: str
    rank: int


@dataclass(frozen=True, kw_only=True)
class TrainingComparison:
    """Clips that answer one prompt, best first: a preference pair where they are two, else a ranked list."""

    prompt: str
    clips: tuple[TrainingClip, ...]


@dataclass(frozen=True, kw_only=True)
class TrainingJob:
    """Everything that an engine needs. The folders need not exist; those given for reading are never written to.

    job: with its spec resolved, nothing left open. In the foreground its ids may be empty.
    samples: the frozen data where it is rated clips; comparisons: where it is pairs or lists. The other is empty.
    corpus_paths: files and folders of text for a language model; empty for a built-in corpus and for adapters.
    models_dir: base models by name; a name without a folder here is a Hugging Face id.
    cache_dir: what is computed once per clip and prompt, or downloaded; may be shared by concurrent jobs and deleted at
    any time.
    output_dir: checkpoints/, training_config.json, report.json, report.md and what was made are written here: previews/
    and adapter/, or the files of a language model (see engines.tinylm.pipeline).
    resume_dir: the files of one committed checkpoint, or None for a fresh start.
    start_adapter_dir: the PEFT folder of the adapter to start from, or None for fresh matrices on the base model.
    threads: CPU threads of the training; None leaves the choice to PyTorch, or to the language model.
    device: such as `cpu` or `cuda:0`; None takes the first GPU where there is one. A language model takes the CPU.
    """

    job: trainer_pb2.Job
    samples: Sequence[TrainingSample] = ()
    comparisons: Sequence[TrainingComparison] = ()
    corpus_paths: Sequence[Path] = ()
    models_dir: Path
    cache_dir: Path
    output_dir: Path
    resume_dir: Path | None = None
    start_adapter_dir: Path | None = None
    threads: int | None = None
    device: str | None = None


class Telemetry(Protocol):
    """Where events go. The sink numbers and times them."""

    def emit(self, event: job_event_pb2.JobEvent) -> None:
        """Take one event without `seq` and `time`. Returns at once; callable from any thread."""


class Blobs(Protocol):
    """Where artefacts are kept, named by their content."""

    def keep(self, path: Path, name: str) -> blob_pb2.File:
        """Store a copy of (or a hard link to) one file and return it as a File whose path is `name`.

        `path` may be deleted afterwards; it is not written to again.
        """


StopRequested = Callable[[], bool]

Outcome = job_event_pb2.JobSucceeded | job_event_pb2.JobCancelled


class Train(Protocol):
    """An engine: one kind of training, from data to an adapter or a language model."""

    def __call__(self, job: TrainingJob, telemetry: Telemetry, blobs: Blobs, stop: StopRequested) -> Outcome:
        """Train until done or until `stop` returns true (asked after every step; then JobCancelled is returned).

        Emits every event but JobFinished, which the caller writes from the outcome or the exception.
        """


def keep_folder(blobs: Blobs, folder: Path) -> list[blob_pb2.File]:
    """Store every file below `folder`; the paths of the Files are relative to it and sorted."""
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    return [blobs.keep(path, path.relative_to(folder).as_posix()) for path in paths]
