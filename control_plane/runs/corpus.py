"""The corpus that a run brings: text files, uploaded before, which become a folder on its node."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import PurePosixPath

from control_plane.errors import BlobNotFound
from control_plane.ports import Blobs
from tunesmith.errors import FieldProblem, InvalidField
from tunesmith.v1 import job_spec_pb2

PATH = "spec.tiny_lm.corpus.corpus_files"


async def require_usable(blobs: Blobs, spec: job_spec_pb2.JobSpec) -> None:
    """Check the files of a language model's corpus; other kinds, and a built-in corpus, have none.

    Raises InvalidField where a name is there twice or is the folder of another, BlobNotFound where one is not uploaded.
    """
    files = spec.tiny_lm.corpus.corpus_files
    if problems := list(_clashes([file.name for file in files])):
        raise InvalidField.of(problems)
    missing = set(await blobs.missing([file.digest for file in files])) if files else set()
    lacking = [file for file in files if file.digest in missing]
    if lacking:
        first = lacking[0]
        others = len(lacking) - 1
        what = f"{first.name} and {others} more of the corpus are" if others else f"{first.name} is"
        raise BlobNotFound(
            f"{what} not uploaded; upload {'them' if others else 'it'} with UploadBlob, then create the run again",
            digest=first.digest,
            name=first.name,
        )


def _clashes(names: Sequence[str]) -> Iterator[FieldProblem]:
    """Names that cannot stand side by side on a node's disk, which may not tell `En.txt` from `en.txt`."""
    first: dict[str, int] = {}
    for at, name in enumerate(names):
        path = f"{PATH}[{at}].name"
        if first.setdefault(name.lower(), at) != at:
            yield FieldProblem(
                path, f"{name} is the name of corpus_files[{first[name.lower()]}], too; rename one of them"
            )
    for at, name in enumerate(names):
        folder = next((parent for parent in PurePosixPath(name).parents if str(parent).lower() in first), None)
        if folder:
            taken = first[str(folder).lower()]
            what = f"{name} lies in {folder}, which is a file: corpus_files[{taken}]; rename one of them"
            yield FieldProblem(f"{PATH}[{at}].name", what)
