"""From nothing to tokens: is there room, which text, which pieces, which ids."""

from __future__ import annotations

import hashlib
import json
import platform
import shutil
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

from trainer_node import preflight
from trainer_node.durable import replace_file
from trainer_node.engines.tinylm import (
    corpus,
    decoding,
    gutenberg,
    layout,
    model_proto,
    paragraphs,
    sealed,
    sources,
    synthetic,
    synthetic_english,
    synthetic_spanish,
    synthetic_words,
    text_files,
    tokenizer,
    works,
)
from trainer_node.engines.tinylm.corpus import PARTS, Corpus, Part
from trainer_node.engines.tinylm.errors import CorpusInvalid, SourcesUnavailable
from trainer_node.engines.tinylm.interruptible import attentively
from trainer_node.engines.tinylm.plan import BYTES_PER_NUMBER, CHECKPOINT_COPIES, Plan, Source, parameters_of, words_of
from trainer_node.engines.tinylm.ports import Text
from trainer_node.engines.tinylm.stages import CODE, Made, Stages, code_of
from trainer_node.engines.tinylm.text_files import TextFile
from trainer_node.engines.tinylm.tokenizer import Tokenizer
from trainer_node.stop_signal import Stopped, never
from trainer_node.training import StopRequested

_DOWNLOADED_BYTES = 12_000_000  # originals and texts
_SPARE_BYTES = 50_000_000  # tokenizer, samples, report


@dataclass(frozen=True)
class Tokenized:
    """Token ids of both parts. counts: by part and language, in the order in which they stand; digest: of all ids."""

    text: Text
    counts: Mapping[str, Mapping[str, int]]
    digest: str


def check(plan: Plan, stages: Stages) -> str:
    """What the machine must have; in words. Raises DiskFull, CorpusInvalid, InvalidField."""
    shape = plan.shape(plan.lm.tokenizer.vocab_size)
    if plan.source == "files":
        text_bytes = sum(file.path.stat().st_size for file in _given(plan, stages))
    else:
        text_bytes = plan.synthetic_bytes
    weights = BYTES_PER_NUMBER * parameters_of(shape)
    checkpoints = CHECKPOINT_COPIES * weights * (plan.lm.checkpoints.keep_checkpoints + 1)
    # a text lies there up to four times: as it was written or came, cleaned, dealt into parts, and as ids
    needed = 4 * text_bytes + checkpoints + 2 * weights + _SPARE_BYTES
    preflight.require_space(plan.output_dir, needed, purpose="the corpus, checkpoints and models")
    if plan.source == "download":
        preflight.require_space(plan.cache_dir, _DOWNLOADED_BYTES, purpose="the downloaded works")
    free_gb = shutil.disk_usage(plan.output_dir).free / 1e9
    versions = ", ".join(f"{name} {metadata.version(name)}" for name in ("torch", "sentencepiece"))
    return f"{free_gb:.1f} GB free, up to {needed / 1e6:,.0f} MB needed; Python {platform.python_version()}, {versions}"


def prepared(plan: Plan, stages: Stages) -> Corpus:
    """The corpus; the synthetic one where the download fails and the plan allows it, which is said loudly."""
    source = plan.source
    recorded = stages.inputs_before(layout.CORPUS).get("source")
    if stages.going_on and source == "download" and plan.may_fall_back and recorded == "synthetic":
        source = "synthetic"  # what this training began with, whether there is a network now or not
    if source == "synthetic":
        stages.listener.say(synthetic.NOTICE, loud=True)
    try:
        return _corpus(plan, stages, source)
    except SourcesUnavailable as error:
        if stages.stop():
            raise Stopped from error
        if not plan.may_fall_back:
            raise
        stages.listener.say(
            f"{error.metadata['work']} could not be downloaded, so {synthetic.NOTICE}; "
            "give text of your own with --corpus-path, or run again with --restart when there is a network",
            loud=True,
        )
        return _corpus(plan, stages, "synthetic")


def trained_tokenizer(plan: Plan, stages: Stages, text: Corpus) -> Tokenizer:
    """The tokenizer of the corpus."""
    settings, folder = plan.lm.tokenizer, plan.output_dir / layout.TOKENIZER
    inputs = {
        "corpus": text.digest,
        "vocab_size": settings.vocab_size,
        "byte_fallback": settings.byte_fallback,
        CODE: [code_of(tokenizer, model_proto), metadata.version("sentencepiece")],
    }

    def make() -> Made:
        stages.listener.doing(f"looking for {settings.vocab_size:,} pieces")
        attentively(
            lambda: tokenizer.train(text, folder, vocab_size=settings.vocab_size, byte_fallback=settings.byte_fallback),
            stop=_stop_of(plan, stages),
        )
        said = f"{settings.vocab_size:,} pieces" + (", bytes for what they lack" if settings.byte_fallback else "")
        return Made(said, [f"{layout.TOKENIZER}/{name}" for name in tokenizer.FILES])

    return stages.settle(layout.TOKENIZER, inputs, make, lambda _: tokenizer.load(folder), rested_on=True)


def tokenized(plan: Plan, stages: Stages, text: Corpus, pieces: Tokenizer) -> Tokenized:
    """The corpus as token ids."""
    folder = plan.output_dir / layout.TOKENS
    inputs = {"corpus": text.digest, "tokenizer": pieces.fingerprint, CODE: code_of(tokenizer)}

    def make() -> Made:
        counts: dict[str, dict[str, int]] = {}
        dtype = ""
        with sealed.room(folder):
            folder.mkdir(parents=True, exist_ok=True)
            for part in PARTS:
                encoded = attentively(partial(pieces.encode_corpus, text, part), stop=_stop_of(plan, stages))
                counts[part], dtype = encoded.counts, encoded.tokens.dtype.newbyteorder("<").str
                replace_file(_ids(folder, part), encoded.tokens.astype(dtype).tobytes())
        kept, held = (sum(counts[part].values()) for part in PARTS)
        said = f"{kept:,} to train on" + (f", {held:,} held out" if held else ", none held out")
        files = [f"{layout.TOKENS}/{_ids(folder, part).name}" for part in PARTS]
        return Made(said, files, {"counts": counts, "dtype": dtype})

    return stages.settle(layout.TOKENS, inputs, make, lambda result: _read(folder, result), rested_on=True)


def _stop_of(plan: Plan, stages: Stages) -> StopRequested:
    """Whether to stop in the middle of a stage: a job does; at a terminal, it is the second Ctrl-C that ends it."""
    return stages.stop if plan.is_of_a_run else never


def _corpus(plan: Plan, stages: Stages, source: Source) -> Corpus:
    folder, settings = plan.output_dir / layout.CORPUS, plan.lm
    inputs = {
        "source": source,
        "texts": _texts_of(plan, stages, source),
        "seed": settings.training.seed,
        "validation_fraction": settings.validation.validation_fraction,
        CODE: code_of(corpus, paragraphs, text_files, decoding, gutenberg),
    }

    def make() -> Made:
        prepare = partial(
            corpus.prepare,
            _files(plan, stages, source),
            folder,
            seed=settings.training.seed,
            validation_fraction=settings.validation.validation_fraction,
            root=plan.corpus_root,
        )
        made = attentively(prepare, stop=_stop_of(plan, stages))
        for note in made.notes:
            stages.listener.say(note)
        counted = ", ".join(f"{one.code} {one.paragraphs:,}" for one in made.languages)
        said = f"{made.size_bytes / 1e6:.2f} MB of {words_of(source)}; paragraphs: {counted}"
        files = [path.relative_to(plan.output_dir).as_posix() for path in sorted(folder.rglob("*")) if path.is_file()]
        return Made(said, files, {"source": source})

    return stages.settle(layout.CORPUS, inputs, make, lambda _: corpus.load(folder), rested_on=True)


def _given(plan: Plan, stages: Stages) -> Sequence[TextFile]:
    """The files that were given. None where they are gone and not needed: a training goes on whose corpus is whole.

    Raises CorpusInvalid, also where one lies where this pipeline writes.
    """
    try:
        files = text_files.find(plan.corpus_paths, root=plan.corpus_root)
        _require_outside(plan.output_dir.resolve(), files)
    except CorpusInvalid as error:
        if not stages.going_on:
            raise
        if stages.is_whole(layout.CORPUS):
            return ()
        what = error.message.partition("; ")[0]
        raise CorpusInvalid(
            f"{what}, and what was made of it in {plan.output_dir / layout.CORPUS} is not whole; give the same text "
            "with --corpus-path"
        ) from error
    return files


def _require_outside(output: Path, files: Iterable[TextFile]) -> None:
    """Raises CorpusInvalid where a file lies in what the pipeline writes over. output: as it is without links."""
    for file in files:
        path = file.path.resolve()
        if path.is_relative_to(output) and (part := path.relative_to(output).parts[0]) in layout.WRITTEN:
            raise CorpusInvalid(
                f"{file.name} lies in {output / part}, which a training into {output} writes over; give another output "
                "folder, or move the text"
            )


def _texts_of(plan: Plan, stages: Stages, source: Source) -> object:
    """What tells the same texts from others, without opening a download."""
    if source == "files":
        if not _given(plan, stages):
            stages.listener.say("the text is not where it was; the training goes on with what was made of it")
            return stages.inputs_before(layout.CORPUS)["texts"]
        return corpus.source_facts(plan.corpus_paths, root=plan.corpus_root)
    if source == "synthetic":
        code = code_of(synthetic, synthetic_english, synthetic_spanish, synthetic_words)
        return {"size_bytes": plan.synthetic_bytes, "grammars": code}
    return hashlib.sha256(json.dumps([sources.RECIPE, repr(works.WORKS)]).encode()).hexdigest()


def _files(plan: Plan, stages: Stages, source: Source) -> Sequence[Path]:
    """The texts on this machine: given, written, or downloaded."""
    if source == "files":
        return plan.corpus_paths
    if source == "synthetic":
        folder = plan.output_dir / layout.TEXTS
        if folder.exists() and not synthetic.is_synthetic(folder):
            raise CorpusInvalid(f"{folder} holds text that no program wrote; move it, or give it with --corpus-path")
        stages.listener.doing("writing text by two grammars")
        return synthetic.write_synthetic(folder, size_bytes=plan.synthetic_bytes)

    return _downloaded(plan, stages)


def _downloaded(plan: Plan, stages: Stages) -> Sequence[Path]:
    """The works. A stop is heard at once, at a terminal too: a mirror may be silent, and what has arrived is kept."""
    last = deque[sources.Progress](maxlen=1)

    def progress(now: sources.Progress) -> None:  # in the thread of the download
        if stages.stop():
            raise Stopped
        last.append(now)

    def tell() -> None:
        for now in last:
            stages.listener.doing(
                f"downloading {now.work.title} ({now.place} of {now.works}): {now.received_bytes / 1e6:.1f} MB"
            )

    stages.listener.doing("downloading works in the public domain")
    fetch = partial(sources.fetch, plan.cache_dir, on_progress=progress)
    return attentively(fetch, stop=stages.stop, meanwhile=tell)


def _read(folder: Path, result: Mapping[str, Any]) -> Tokenized:
    """The ids of both parts, which the record has proven whole."""
    parts = {part: _ids(folder, part).read_bytes() for part in PARTS}
    arrays = {part: np.frombuffer(content, dtype=result["dtype"]) for part, content in parts.items()}
    digest = hashlib.sha256(b"".join(hashlib.sha256(parts[part]).digest() for part in PARTS)).hexdigest()
    return Tokenized(Text(training=arrays["train"], validation=arrays["validation"]), result["counts"], digest)


def _ids(folder: Path, part: Part) -> Path:
    return folder / f"{part}.bin"
