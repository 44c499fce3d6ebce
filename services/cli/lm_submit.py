"""A language model as a run: its settings under the names of `tunesmith lm train`, and text instead of a data set."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from services.cli import lm_corpus
from services.cli.lm_corpus import Text
from services.cli.lm_settings import KIND, OTHER_KINDS, of_mapping
from services.cli.settings_input import with_kind

if TYPE_CHECKING:
    from tunesmith.client.client import Client
    from tunesmith.v1.job_spec_pb2 import JobSpec

CORPUS_PATH = "corpus_path"  # key of a file, beside the settings
_OF_THIS_MACHINE = ("output", "threads", "cache_dir")  # of `lm train`, whose files may be submitted


def below_its_kind(
    mapping: Mapping[str, Any],
    training_type: str | None,
    *,
    file: Path | None,
    corpus_path: Sequence[Path] = (),
    note: Callable[[str], None],
    otherwise: str = "",
) -> tuple[dict[str, Any], list[Text]]:
    """The settings in a file below their kind, as `with_kind` does; and the text that a language model learns from.

    corpus_path: that of the flag, which stands above the file. note: told what the file says in vain. otherwise:
    the kind where nothing names one. Raises InvalidField, CorpusInvalid, UsageError.
    """
    if not _is_meant(mapping, training_type, corpus_path):
        return with_kind(mapping, training_type, otherwise=otherwise), []
    body, own = of_mapping(mapping, file)
    left_out = [name for name in _OF_THIS_MACHINE if name in own]
    if left_out:
        note(f"{', '.join(left_out)} of {file} left out: the node decides; they are for `tunesmith lm train`")
    nested = with_kind({KIND: body}, training_type)
    paths = corpus_path or own.get(CORPUS_PATH, ())
    return nested, lm_corpus.texts_of(paths) if paths else []


def _is_meant(mapping: Mapping[str, Any], training_type: str | None, corpus_path: Sequence[Path]) -> bool:
    """Whether a file and flags ask for a language model; whoever gives text does, unless the file has another kind."""
    if KIND in mapping or KIND in (training_type, mapping.get("training_type")):
        return True
    if not (corpus_path or CORPUS_PATH in mapping):
        return False
    others = [key for key in (*OTHER_KINDS, "training_type") if key in mapping]
    if others or training_type:
        kind = training_type or mapping.get("training_type") or others[0]
        raise click.UsageError(f"{CORPUS_PATH} is for {KIND}, and this is for {kind}; leave one of them out")
    return True


def settle_corpus(client: Client, spec: JobSpec, texts: Sequence[Text], *, dry_run: bool = False) -> None:
    """Put the text into a run's settings, uploaded, as the server wants it. In a dry run nothing is sent, and the
    server is not asked about it either."""
    if texts and not dry_run:
        lm_corpus.upload(client, texts)
    add_corpus(spec, () if dry_run else texts)


def add_corpus(spec: JobSpec, texts: Sequence[Text]) -> None:
    """Name the text in settings, where there is any."""
    if texts:
        del spec.tiny_lm.corpus.corpus_files[:]
        spec.tiny_lm.corpus.corpus_files.extend(lm_corpus.corpus_files(texts))


def learns_from(spec: JobSpec) -> str:
    """In words what a run learns from to which no text was given. spec: as the server has resolved it."""
    from tunesmith.v1 import job_spec_pb2

    corpus = spec.tiny_lm.corpus
    if corpus.corpus_files:
        count = len(corpus.corpus_files)
        return "the text file of its experiment" if count == 1 else f"the {count:,} text files of its experiment"
    if corpus.corpus_source == job_spec_pb2.CORPUS_SOURCE_SYNTHETIC:
        return "SYNTHETIC sentences, which mean nothing; --corpus-path takes text of your own"
    return "works in the public domain, which the node downloads (3 MB); --corpus-path takes text of your own"
